import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { evaluate, train, type TrainOptions } from "../../src/index.ts"
import { type Disk, emptyDisk, fakeRun, type Hooks, trainOptions } from "../support/fake-run.ts"
import { difference } from "../support/fixtures.ts"

const run = (options: TrainOptions, disk: Disk = emptyDisk(), hooks: Hooks = {}) => {
  const fake = fakeRun(disk, hooks)
  return Effect.map(Effect.provide(train(options), fake.layer), (state) => ({ ...fake, disk, state }))
}

const failure = (options: TrainOptions, hooks: Hooks) =>
  Effect.map(Effect.flip(run(options, emptyDisk(), hooks)), (error) => error.message)

describe("a GRPO run", () => {
  it.effect("goes through its phases in order", () =>
    Effect.gen(function* () {
      const { events, state } = yield* run(trainOptions({ maxSteps: 2, evalSteps: 1, saveSteps: 1 }))
      expect(events).toEqual([
        "sync 0",
        "evaluate",
        "metrics 0",
        ...[1, 2].flatMap((n) => ["generate", `sync ${n}`, "evaluate", `metrics ${n}`, `save ${n}`]),
      ])
      expect(state).toMatchObject({ step: 2, policyVersion: 2 })
    }),
  )

  it.effect("learns what is rewarded", () =>
    Effect.gen(function* () {
      const { disk } = yield* run(trainOptions({ maxSteps: 50, promptsPerStep: 4, numGenerations: 8, learningRate: 4 }))
      expect(disk.metrics.get(1)!["reward"]).toBeLessThan(1.5)
      expect(disk.metrics.get(50)!["reward"]).toBeGreaterThan(3)
    }),
  )

  it.effect("reports TRL's metrics, and that sampler and trainer agree", () =>
    Effect.gen(function* () {
      const { disk } = yield* run(trainOptions({ maxSteps: 1, beta: 0.1, numIterations: 2 }))
      const metrics = disk.metrics.get(1)!
      expect(Object.keys(metrics).toSorted().join(" ")).toBe(
        "clip_ratio/high_mean clip_ratio/low_mean clip_ratio/region_mean completions/clipped_ratio " +
          "completions/max_length completions/mean_length completions/mean_terminated_length completions/min_length " +
          "entropy frac_reward_zero_std grad_norm kl learning_rate loss num_tokens reward reward_std " +
          "rewards/ended/mean rewards/ended/std rewards/letters/mean rewards/letters/std " +
          "sampling/sampling_logp_difference/max skipped_updates",
      )
      // Only float32 rounding of the sampler's log-probabilities: the second update has moved by far more.
      expect(metrics["sampling/sampling_logp_difference/max"]).toBeLessThan(1e-6)
      expect(metrics["kl"]).toBeGreaterThan(0)
      expect(metrics["rewards/ended/mean"]).toBe(1)
    }),
  )

  it.effect("samples from conversations, which rewards see as messages too", () =>
    Effect.gen(function* () {
      const messages = [{ role: "user", content: "ab" }]
      const seen: Array<unknown> = []
      const { disk, requests } = yield* run(trainOptions({ maxSteps: 1, logCompletionsSteps: 1 }), emptyDisk(), {
        prompt: () => messages,
        score: ({ messages: asked, prompt }) =>
          Effect.sync(() => {
            seen.push({ prompt, messages: asked })
            return { rewards: {}, reward: 1 }
          }),
      })
      expect([...requests.at(-1)!.prompts[0]!.tokens]).toEqual([1, 2])
      expect(seen[0]).toEqual({ prompt: "ab", messages })
      expect(disk.samples.get(1)![0]!.prompt).toBe("ab")
    }),
  )

  it.effect("makes numIterations × stepsPerGeneration updates a step, each on whole groups", () =>
    Effect.gen(function* () {
      const options = trainOptions({
        maxSteps: 1,
        promptsPerStep: 4,
        numGenerations: 4,
        numIterations: 2,
        stepsPerGeneration: 2,
        microBatchSize: 3,
      })
      const { policy, state } = yield* run(options)
      const sizes = policy.calls.map((call) => (call.kind === "step" ? "step" : call.batch.sequences.length))
      expect(sizes).toEqual(Array.from({ length: 4 }, () => [3, 3, 2, "step"]).flat())
      expect(state.policyVersion).toBe(4)
    }),
  )

  it.effect("has the same gradient however a batch is split", () =>
    Effect.gen(function* () {
      for (const lossType of ["dapo", "grpo", "dr_grpo"] as const) {
        const options = { maxSteps: 3, lossType, entropyCoef: 0.05, beta: 0.1, maskTruncatedCompletions: true }
        const whole = yield* run(trainOptions({ ...options, microBatchSize: 100 }))
        const split = yield* run(trainOptions({ ...options, microBatchSize: 1 }))
        expect(difference(split.policy.parameters, whole.policy.parameters)).toBeLessThanOrEqual(1e-9)
      }
    }),
  )

  it.effect("weighs tokens by the counts of the whole optimiser batch", () =>
    Effect.gen(function* () {
      for (const [lossType, total] of [
        ["dapo", 1],
        ["grpo", 1],
      ] as const) {
        const { policy } = yield* run(trainOptions({ maxSteps: 1, lossType, microBatchSize: 3 }))
        const weights = policy.calls.flatMap((call) => (call.kind === "accumulate" ? call.batch.weights : []))
        expect(weights).toHaveLength(8)
        expect(
          difference([weights.reduce((sum, row) => sum + row.reduce((a, b) => a + b, 0), 0)], [total]),
        ).toBeLessThanOrEqual(1e-6)
      }
    }),
  )

  it.effect("leaves truncated completions out of the loss where asked to", () =>
    Effect.gen(function* () {
      const { disk, policy } = yield* run(
        trainOptions({ maxSteps: 1, maskTruncatedCompletions: true, logCompletionsSteps: 1 }),
      )
      const whole = disk.samples.get(1)!.filter(({ finishReason }) => finishReason === "stop")
      expect(whole.length).toBeGreaterThan(0)
      expect(whole.length).toBeLessThan(8)
      const sequences = policy.calls.flatMap((call) => (call.kind === "accumulate" ? call.batch.sequences : []))
      expect(sequences).toHaveLength(whole.length)
    }),
  )

  it.effect("draws by seed and step, and samples the rows of the step in order", () =>
    Effect.gen(function* () {
      const first = yield* run(trainOptions({ maxSteps: 8, logCompletionsSteps: 1 }))
      const again = yield* run(trainOptions({ maxSteps: 8, logCompletionsSteps: 1 }))
      const other = yield* run(trainOptions({ maxSteps: 8, logCompletionsSteps: 1, seed: 1 }))
      expect(again.disk.metrics).toEqual(first.disk.metrics)
      expect(other.disk.metrics).not.toEqual(first.disk.metrics)
      expect(new Set(first.requests.map(({ seed }) => seed)).size).toBe(8)
      const rows = first.requests.map(({ prompts }) => prompts.map(({ row }) => row))
      expect(new Set(rows.slice(0, 4).flat()).size).toBe(8)
      expect(first.disk.samples.get(3)!.map(({ row, sample }) => [row, sample])).toEqual(
        rows[2]!.flatMap((row) => [0, 1, 2, 3].map((sample) => [row, sample])),
      )
    }),
  )

  it.effect("follows the learning rate schedule", () =>
    Effect.gen(function* () {
      const { disk, policy } = yield* run(trainOptions({ maxSteps: 4, warmupSteps: 1, maxGradNorm: 0.3 }))
      const rates = [1, 2, 3, 4].map((step) => disk.metrics.get(step)!["learning_rate"]!)
      expect(difference(rates, [0.5, 1, 2 / 3, 1 / 3])).toBeLessThanOrEqual(1e-12)
      expect(policy.calls.filter((call) => call.kind === "step").map(({ options }) => options)).toEqual(
        rates.map((learningRate) => ({ learningRate, maxGradNorm: 0.3 })),
      )
    }),
  )
})

describe("a PPO run", () => {
  const options = (input: Parameters<typeof trainOptions>[0] = {}) =>
    trainOptions({ algorithm: "ppo", promptsPerStep: 4, numGenerations: 2, ...input })

  it.effect("trains critic and policy, by default in four passes", () =>
    Effect.gen(function* () {
      const { critic, disk, policy } = yield* run(options({ maxSteps: 1 }))
      expect(policy.calls.filter(({ kind }) => kind === "step")).toHaveLength(4)
      expect(critic.calls.filter(({ kind }) => kind === "step")).toHaveLength(4)
      const metrics = disk.metrics.get(1)!
      for (const name of ["kl", "value_loss", "value_clip_ratio", "critic_grad_norm", "values/mean", "returns/mean"]) {
        expect(metrics).toHaveProperty([name])
      }
      expect(metrics["critic_learning_rate"]).toBe(0.5)
    }),
  )

  it.effect("learns what is rewarded and to foresee it, also from single completions", () =>
    Effect.gen(function* () {
      const { disk } = yield* run(
        options({
          maxSteps: 30,
          promptsPerStep: 8,
          numGenerations: 1,
          stepsPerGeneration: 2,
          learningRate: 0.5,
          beta: 0.01,
        }),
      )
      expect(disk.metrics.get(1)!["reward"]).toBeLessThan(1.5)
      expect(disk.metrics.get(30)!["reward"]).toBeGreaterThan(3)
      expect(disk.metrics.get(30)!["value_loss"]!).toBeLessThan(disk.metrics.get(1)!["value_loss"]!)
    }),
  )

  it.effect("puts the score on the last token and whitens over all tokens", () =>
    Effect.gen(function* () {
      const { critic, policy } = yield* run(options({ maxSteps: 1, numIterations: 1, beta: 0, microBatchSize: 100 }))
      const [call] = policy.calls
      if (call?.kind !== "accumulate") return expect.unreachable()
      const advantages = call.batch.fields["advantages"]!.flatMap((row) => [...row])
      expect(difference([advantages.reduce((sum, x) => sum + x, 0) / advantages.length], [0])).toBeLessThanOrEqual(1e-6)
      // The critic starts at 0, so with gamma 1 and lam 0.95 returns fall geometrically towards the first token.
      const [valueCall] = critic.calls
      if (valueCall?.kind !== "accumulate") return expect.unreachable()
      for (const row of valueCall.batch.fields["returns"]!) {
        const last = row.at(-1)!
        expect(
          difference(
            row,
            Array.from(row, (_, t) => last * 0.95 ** (row.length - 1 - t)),
          ),
        ).toBeLessThanOrEqual(1e-6)
      }
    }),
  )

  it.effect("takes missingEosPenalty off the score of a completion that was cut", () =>
    Effect.gen(function* () {
      const score = () => Effect.succeed({ rewards: { letters: 1, ended: null }, reward: 1 })
      const { critic } = yield* run(options({ maxSteps: 1, beta: 0, missingEosPenalty: 3 }), emptyDisk(), { score })
      const [call] = critic.calls
      if (call?.kind !== "accumulate") return expect.unreachable()
      const scores = call.batch.sequences.map(({ tokens }, i) => [
        tokens.at(-1) === 0,
        call.batch.fields["returns"]![i]!.at(-1),
      ])
      expect(new Set(scores.map(String))).toEqual(new Set(["true,1", "false,-2"]))
    }),
  )

  it.effect("leaves completions without a reward out of both losses", () =>
    Effect.gen(function* () {
      const { critic, policy } = yield* run(options({ maxSteps: 1, numIterations: 1 }), emptyDisk(), {
        score: ({ columns }) =>
          Effect.succeed({ rewards: {}, reward: (columns["index"] as number) % 2 === 0 ? null : Math.sin(1) }),
      })
      for (const { calls } of [policy, critic]) {
        const sequences = calls.flatMap((call) => (call.kind === "accumulate" ? call.batch.sequences : []))
        expect(sequences.length).toBeLessThan(8)
      }
    }),
  )
})

describe("a step without anything to learn from", () => {
  it.effect("makes no update when every completion is masked", () =>
    Effect.gen(function* () {
      const disk = emptyDisk()
      const fake = fakeRun(disk)
      // The token that ends a text is never drawn first, and nothing comes after the first.
      fake.policy.parameters[0] = -1000
      const options = trainOptions({ maxSteps: 2, maskTruncatedCompletions: true, maxCompletionLength: 1 })
      const state = yield* Effect.provide(train(options), fake.layer)
      expect(fake.policy.calls).toEqual([])
      expect(state).toMatchObject({ step: 2, policyVersion: 0 })
      expect(disk.metrics.get(2)).toMatchObject({ "completions/clipped_ratio": 1, learning_rate: 0.5 })
      expect(disk.metrics.get(2)).not.toHaveProperty("loss")
    }),
  )

  it.effect("has advantages of exactly 0 when all rewards are null or equal", () =>
    Effect.gen(function* () {
      const { disk, policy } = yield* run(trainOptions({ maxSteps: 1, logCompletionsSteps: 1 }), emptyDisk(), {
        score: ({ columns }) => Effect.succeed({ rewards: {}, reward: columns["index"] === 0 ? null : 0.1 }),
      })
      expect(disk.samples.get(1)!.map(({ advantage }) => advantage)).toEqual(Array(8).fill(0))
      expect([...policy.parameters].every((value) => value === 0)).toBe(true)
    }),
  )
})

describe("evaluation", () => {
  it.effect("is greedy, over the first rows of the eval split, and names its metrics", () =>
    Effect.gen(function* () {
      const fake = fakeRun(emptyDisk(), { evalRows: 5 })
      fake.policy.parameters.set([0, 9], 0)
      const program = evaluate({ evalSize: 3, maxCompletionLength: 2, stop: [] })
      const { metrics, trajectories } = yield* Effect.provide(program, fake.layer)
      const [request] = fake.requests
      expect(request).toMatchObject({ numGenerations: 1, sampling: { temperature: 0, maxCompletionLength: 2 } })
      expect(request!.prompts.map(({ row }) => row)).toEqual([0, 1, 2])
      expect(trajectories).toHaveLength(3)
      expect(Object.keys(metrics).toSorted()).toEqual([
        "eval/accuracy",
        "eval/completions/mean_length",
        "eval/reward",
        "eval/rewards/ended/mean",
        "eval/rewards/letters/mean",
      ])
    }),
  )

  it.effect("counts as accurate what the first reward gives 1 or more", () =>
    Effect.gen(function* () {
      const scores = [1, 0.5, null, 2]
      const fake = fakeRun(emptyDisk(), {
        evalRows: 4,
        score: ({ columns }) => {
          const letters = scores[columns["index"] as number]!
          return Effect.succeed({ rewards: { letters, ended: 0 }, reward: letters })
        },
      })
      const { metrics } = yield* Effect.provide(evaluate({ evalSize: 9, maxCompletionLength: 2, stop: [] }), fake.layer)
      expect(metrics["eval/accuracy"]).toBe(0.5)
      expect(metrics["eval/rewards/letters/mean"]).toBeCloseTo(3.5 / 3, 12)
      expect(metrics["eval/reward"]).toBeCloseTo(3.5 / 3, 12)
    }),
  )

  it.effect("changes nothing in training", () =>
    Effect.gen(function* () {
      const plain = yield* run(trainOptions({}))
      const evaluated = yield* run(trainOptions({ evalSteps: 1 }))
      expect(evaluated.policy.parameters).toEqual(plain.policy.parameters)
      for (const [step, metrics] of plain.disk.metrics) expect(evaluated.disk.metrics.get(step)).toMatchObject(metrics)
    }),
  )
})

describe("a run says what is wrong", () => {
  it.effect("with a prompt that leaves no room, by row", () =>
    Effect.gen(function* () {
      const message = yield* failure(trainOptions({}), { prompt: (row) => "a".repeat(row === 5 ? 13 : 12) })
      expect(message).toMatch(/^Row 5 of task "letters": its prompt has 13 tokens.*leaves 12/)
    }),
  )

  it.effect("with an empty prompt", () =>
    Effect.gen(function* () {
      expect(yield* failure(trainOptions({}), { prompt: () => "" })).toMatch(
        /^Row \d+ of task "letters" has an empty prompt/,
      )
    }),
  )

  it.effect("with a stop text that is not one token", () =>
    Effect.gen(function* () {
      expect(yield* failure(trainOptions({ stop: ["ab"] }), {})).toMatch(/^stop: "ab" is 2 tokens/)
      const { requests } = yield* run(trainOptions({ maxSteps: 1, stop: ["b"] }))
      expect(requests[0]!.sampling.stopTokens).toEqual([2])
    }),
  )

  it.effect("with too few rows, or none to evaluate on", () =>
    Effect.gen(function* () {
      expect(yield* failure(trainOptions({}), { rows: 1 })).toMatch(
        /has 1 rows to train on, fewer than promptsPerStep 2/,
      )
      expect(yield* failure(trainOptions({ evalSteps: 1 }), { evalRows: 0 })).toMatch(/no eval split/)
    }),
  )

  it.effect("with a model that is not there", () =>
    Effect.gen(function* () {
      expect(yield* failure(trainOptions({ beta: 0.1 }), { without: ["reference"] })).toMatch(/no reference model/)
      expect(yield* failure(trainOptions({ algorithm: "ppo" }), { without: ["critic"] })).toMatch(/needs a critic/)
      yield* run(trainOptions({ maxSteps: 1 }), emptyDisk(), { without: ["reference", "critic"] })
    }),
  )

  it.effect("with a reward that is not a number", () =>
    Effect.gen(function* () {
      const score = () => Effect.succeed({ rewards: { letters: Number.NaN }, reward: Number.NaN })
      expect(yield* failure(trainOptions({}), { score })).toMatch(/^Row \d+, sample 0: the reward is NaN/)
    }),
  )
})

describe("a gradient that is not finite", () => {
  it.effect("is skipped, and counted in the metrics", () =>
    Effect.gen(function* () {
      const disk = emptyDisk()
      const fake = fakeRun(disk)
      fake.policy.gradNorms.push(Number.NaN, Number.POSITIVE_INFINITY)
      const state = yield* Effect.provide(train(trainOptions({ maxSteps: 4 })), fake.layer)
      expect([1, 2, 3, 4].map((step) => disk.metrics.get(step)!["skipped_updates"])).toEqual([1, 1, 0, 0])
      expect(disk.metrics.get(1)).not.toHaveProperty("grad_norm")
      expect(state.policyVersion).toBe(2)
    }),
  )

  it.effect("stops the run the third time in a row", () =>
    Effect.gen(function* () {
      const fake = fakeRun(emptyDisk())
      fake.policy.gradNorms.push(Number.NaN, Number.NaN, Number.NaN)
      const error = yield* Effect.flip(Effect.provide(train(trainOptions({ maxSteps: 4 })), fake.layer))
      expect(error.message).toMatch(/^Step 3: the gradient was not finite \(norm NaN\) for 3 updates in a row/)
    }),
  )
})
