import { describe, expect, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Logger } from "effect"
import { sft, train } from "../../src/index.ts"
import { type Disk, emptyDisk, fakeRun, type Hooks, sftOptions, trainOptions } from "../support/fake-run.ts"

const options = trainOptions({
  maxSteps: 7,
  saveSteps: 2,
  saveTotalLimit: 2,
  evalSteps: 3,
  logCompletionsSteps: 2,
  numIterations: 2,
  beta: 0.1,
})

const start = (disk: Disk, hooks: Hooks = {}, of = options) => {
  const fake = fakeRun(disk, hooks)
  return Effect.map(Effect.provide(train(of), fake.layer), (state) => ({ ...fake, state }))
}

/** Dies in the rollouts of `step`, as by `kill -9`: nothing after that moment runs. */
const killedAt = (disk: Disk, step: number, of = options) => {
  let steps = 0
  const onGenerate: Hooks["onGenerate"] = ({ sampling }) =>
    sampling.temperature > 0 && ++steps === step ? Effect.die("killed") : Effect.void
  return Effect.exit(start(disk, { onGenerate }, of))
}

const expectSameRun = (disk: Disk, reference: Disk) => {
  expect([...disk.metrics]).toEqual([...reference.metrics])
  expect([...disk.samples]).toEqual([...reference.samples])
  expect(disk.checkpoints.get(7)).toEqual(reference.checkpoints.get(7))
}

describe("a run that was killed", () => {
  for (const algorithm of ["grpo", "ppo"] as const) {
    it.effect(`and resumed is the run that was not (${algorithm})`, () =>
      Effect.gen(function* () {
        const of = trainOptions({ ...options, algorithm, criticLearningRate: algorithm === "ppo" ? 0.5 : 1e-5 })
        const reference = emptyDisk()
        yield* start(reference, {}, of)
        for (const step of [1, 2, 3, 4, 6, 7]) {
          const disk = emptyDisk()
          yield* killedAt(disk, step, of)
          const { state } = yield* start(disk, {}, of)
          expect(state.step).toBe(7)
          expectSameRun(disk, reference)
        }
      }),
    )
  }

  it.effect("again and again, still", () =>
    Effect.gen(function* () {
      const reference = emptyDisk()
      yield* start(reference)
      const disk = emptyDisk()
      for (let attempt = 0; attempt < 4; attempt++) yield* killedAt(disk, 3)
      yield* start(disk)
      expectSameRun(disk, reference)
      expect(disk.rewinds).toEqual([-1, 2, 4, 6, 7])
    }),
  )

  it.effect("remembers refused updates", () =>
    Effect.gen(function* () {
      const disk = emptyDisk()
      const every = trainOptions({ maxSteps: 5, saveSteps: 1 })
      const first = fakeRun(disk, { onGenerate: () => (disk.metrics.has(2) ? Effect.die("killed") : Effect.void) })
      first.policy.gradNorms.push(Number.NaN, Number.NaN)
      yield* Effect.exit(Effect.provide(train(every), first.layer))
      const second = fakeRun(disk)
      second.policy.gradNorms.push(Number.NaN)
      const error = yield* Effect.flip(Effect.provide(train(every), second.layer))
      expect(error.message).toMatch(/^Step 3/)
    }),
  )

  it.effect("and was finished, has nothing left to do", () =>
    Effect.gen(function* () {
      const disk = emptyDisk()
      yield* start(disk)
      const { events } = yield* start(disk)
      expect(events).toEqual(["sync 14"])
    }),
  )
})

describe("an interruption", () => {
  it.live("waits for the running step, then saves it", () =>
    Effect.gen(function* () {
      const reference = emptyDisk()
      yield* start(reference)

      const disk = emptyDisk()
      const reached = yield* Deferred.make<void>()
      const goOn = yield* Deferred.make<void>()
      let steps = 0
      const onGenerate: Hooks["onGenerate"] = ({ sampling }) =>
        sampling.temperature > 0 && ++steps === 3
          ? Effect.andThen(Deferred.succeed(reached, undefined), Deferred.await(goOn))
          : Effect.void
      const fiber = yield* Effect.forkChild(start(disk, { onGenerate }))
      yield* Deferred.await(reached)
      const interruption = yield* Effect.forkChild(Fiber.interrupt(fiber))
      yield* Effect.sleep("10 millis")
      expect([...disk.checkpoints.keys()]).toEqual([2])
      yield* Deferred.succeed(goOn, undefined)
      yield* Fiber.join(interruption)
      const exit = yield* Fiber.await(fiber)
      expect(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)).toBe(true)
      expect([...disk.checkpoints.keys()]).toEqual([2, 3])
      expect(disk.metrics.has(3)).toBe(true)

      yield* start(disk)
      expectSameRun(disk, reference)
    }),
  )

  it.live("does not keep what runs inside a step from being interrupted", () =>
    Effect.gen(function* () {
      const score: Hooks["score"] = () =>
        Effect.timeoutOrElse(Effect.never, {
          duration: "1 millis",
          orElse: () => Effect.succeed({ rewards: {}, reward: null }),
        })
      const { state } = yield* start(emptyDisk(), { score }, trainOptions({ maxSteps: 1 }))
      expect(state.step).toBe(1)

      const onGenerate = () => Effect.all([Effect.never, Effect.die("broken")], { concurrency: 2, discard: true })
      const exit = yield* Effect.exit(start(emptyDisk(), { onGenerate }, trainOptions({ maxSteps: 1 })))
      expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toBe("broken")
    }),
  )
})

describe("checkpoints", () => {
  it.effect("hold the state of trainer, policy and critic", () =>
    Effect.gen(function* () {
      const disk = emptyDisk()
      yield* start(disk, {}, trainOptions({ algorithm: "ppo", maxSteps: 1 }))
      const files = disk.checkpoints.get(1)!
      expect(Object.keys(files).toSorted()).toEqual(["critic/state.json", "policy/state.json", "trainer.json"])
      expect(JSON.parse(new TextDecoder().decode(files["trainer.json"]))).toEqual({
        step: 1,
        policyVersion: 4,
        numTokens: expect.any(Number),
        refusedUpdates: 0,
      })
    }),
  )

  it.effect("are kept up to saveTotalLimit", () =>
    Effect.gen(function* () {
      const disk = emptyDisk()
      yield* start(disk)
      expect([...disk.checkpoints.keys()]).toEqual([6, 7])
    }),
  )

  it.effect("at the end only, when saveSteps is 0", () =>
    Effect.gen(function* () {
      const disk = emptyDisk()
      yield* start(disk, {}, trainOptions({ saveSteps: 0 }))
      expect([...disk.checkpoints.keys()]).toEqual([4])
    }),
  )

  it.effect("that are corrupt are named in a warning, and the one before is used", () =>
    Effect.gen(function* () {
      const reference = emptyDisk()
      yield* start(reference)
      const disk = emptyDisk()
      yield* killedAt(disk, 6)
      expect([...disk.checkpoints.keys()]).toEqual([2, 4])
      disk.corrupt.add(4)
      const warnings: Array<string> = []
      const logger = Logger.make(({ logLevel, message }) => void warnings.push(`${logLevel}: ${String(message)}`))
      const { state } = yield* Effect.provide(start(disk), Logger.layer([logger]))
      expect(warnings).toEqual([
        "Warn: Checkpoint of step 4 is corrupt, trying an older one: policy/state.json does not match its hash",
      ])
      expect(state.step).toBe(7)
      expect(disk.corrupt.size).toBe(0)
      expectSameRun(disk, reference)
    }),
  )

  it.effect("with an unreadable trainer.json are corrupt too", () =>
    Effect.gen(function* () {
      const disk = emptyDisk()
      yield* killedAt(disk, 6)
      disk.checkpoints.set(4, { ...disk.checkpoints.get(4), "trainer.json": new TextEncoder().encode("{}") })
      yield* Effect.provide(start(disk), Logger.layer([]))
      expect(disk.rewinds).toEqual([-1, 2])
    }),
  )

  it.effect("that are all corrupt stop the run rather than begin it again", () =>
    Effect.gen(function* () {
      const disk = emptyDisk()
      yield* killedAt(disk, 6)
      disk.corrupt.add(2).add(4)
      const error = yield* Effect.flip(Effect.provide(start(disk), Logger.layer([])))
      expect(error.message).toMatch(/^None of the checkpoints \(steps 2, 4\) is sound/)
      expect(disk.rewinds).toEqual([-1])
    }),
  )

  it.effect("of another algorithm are refused", () =>
    Effect.gen(function* () {
      const disk = emptyDisk()
      yield* killedAt(disk, 6)
      const error = yield* Effect.flip(start(disk, {}, trainOptions({ algorithm: "ppo" })))
      expect(error.message).toMatch(/^The checkpoint of step 4 has no critic/)
    }),
  )
})

describe("supervised fine-tuning", () => {
  const tune = (disk: Disk, input: Parameters<typeof sftOptions>[0] = {}, hooks: Hooks = {}) => {
    const fake = fakeRun(disk, hooks)
    return Effect.map(Effect.provide(sft(sftOptions(input)), fake.layer), (state) => ({ ...fake, state }))
  }

  it.effect("learns to imitate and then to end", () =>
    Effect.gen(function* () {
      const disk = emptyDisk()
      const { policy } = yield* tune(disk, {
        maxSteps: 40,
        learningRate: 5,
        evalSteps: 20,
        lrSchedulerType: "constant",
      })
      const [call] = policy.calls
      if (call?.kind !== "accumulate") return expect.unreachable()
      expect([...call.batch.sequences[0]!.tokens]).toEqual([1, 2, 1, 1, 0])
      expect(call.batch.sequences[0]!.promptLength).toBe(2)
      expect(disk.metrics.get(1)!["loss"]).toBeCloseTo(Math.log(5), 6)
      expect(disk.metrics.get(0)!["eval/loss"]).toBeCloseTo(Math.log(5), 6)
      expect(disk.metrics.get(40)!["eval/loss"]).toBeLessThan(0.1)
      expect(Object.keys(disk.metrics.get(1)!).toSorted()).toEqual([
        "completions/clipped_ratio",
        "grad_norm",
        "learning_rate",
        "loss",
        "num_tokens",
        "skipped_updates",
      ])
    }),
  )

  it.effect("does not depend on micro-batches, and resumes", () =>
    Effect.gen(function* () {
      const reference = emptyDisk()
      yield* tune(reference, { maxSteps: 6, microBatchSize: 4 })
      const disk = emptyDisk()
      yield* tune(disk, { maxSteps: 6, microBatchSize: 1 })
      expect(disk.metrics.get(6)!["loss"]).toBeCloseTo(reference.metrics.get(6)!["loss"]!, 9)
      disk.checkpoints.clear()
      disk.checkpoints.set(6, reference.checkpoints.get(6)!)
      const { events } = yield* tune(disk, { maxSteps: 6 })
      expect(events).toEqual([])
    }),
  )

  it.effect("learns what the assistant says of a conversation, and nothing else", () =>
    Effect.gen(function* () {
      const say = (role: string) => (content: string) => ({ role, content })
      const [user, assistant] = [say("user"), say("assistant")]
      const conversation: Hooks = {
        // The answer in the prompt is given; of the rest, two answers are learnt and a question is not.
        prompt: () => [user("a"), assistant("b"), user("c")],
        completion: () => [assistant("dd"), user("aaa"), assistant("b"), user("c")],
      }
      const disk = emptyDisk()
      const { policy } = yield* tune(disk, { maxSteps: 1, evalSteps: 1, microBatchSize: 1 }, conversation)
      const [call] = policy.calls
      if (call?.kind !== "accumulate") return expect.unreachable()
      const [sequence] = call.batch.sequences
      expect([...sequence!.tokens]).toEqual([1, 2, 3, 4, 4, 1, 1, 1, 2])
      expect(sequence!.promptLength).toBe(3)
      const learnt = 4 * 3
      expect([...call.batch.weights[0]!]).toEqual(
        Array.from(Float32Array.of(1, 1, 0, 0, 0, 1), (w) => Math.fround(w / learnt)),
      )
      expect(disk.metrics.get(1)!["loss"]).toBeCloseTo(Math.log(5), 6)
      expect(disk.metrics.get(0)!["eval/loss"]).toBeCloseTo(Math.log(5), 6)

      const silent = { ...conversation, completion: () => [user("a")] }
      const error = yield* Effect.flip(tune(emptyDisk(), {}, silent))
      expect(error.message).toMatch(/^Row \d+ of task "letters" has no answer of the assistant to learn from/)
      const mixed = { ...conversation, completion: () => "dd" }
      expect((yield* Effect.flip(tune(emptyDisk(), {}, mixed))).message).toMatch(
        /^Row \d+ of task "letters": the completion is text, but the prompt is a list of messages/,
      )
    }),
  )

  it.effect("cuts rows at maxLength and refuses those with nothing left to learn", () =>
    Effect.gen(function* () {
      const disk = emptyDisk()
      const { policy } = yield* tune(disk, { maxSteps: 1, maxLength: 3 })
      expect(disk.metrics.get(1)!["completions/clipped_ratio"]).toBe(1)
      const [call] = policy.calls
      if (call?.kind !== "accumulate") return expect.unreachable()
      expect([...call.batch.sequences[0]!.tokens]).toEqual([1, 2, 1])
      const error = yield* Effect.flip(tune(emptyDisk(), { maxLength: 2 }))
      expect(error.message).toMatch(/^Row \d+ of task "letters" has a prompt of 2 tokens/)
    }),
  )
})
