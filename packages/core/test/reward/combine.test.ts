import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Logger, Schema } from "effect"
import { TestClock } from "effect/testing"
import {
  combineRewards,
  defineReward,
  openPlugin,
  Reward,
  rewardLayer,
  RewardSettings,
  type RewardInput,
  type ScoreFunction,
} from "../../src/index.ts"

const inputs: ReadonlyArray<RewardInput> = ["a", "bb", "ccc"].map((completion) => ({
  prompt: "p",
  completion,
  completionTokens: Int32Array.from(completion, (c) => c.charCodeAt(0)),
  columns: {},
  finishReason: "stop",
  maxCompletionLength: 8,
}))

const weighted = (name: string, score: ScoreFunction, settings: Partial<RewardSettings> = {}) =>
  Effect.gen(function* () {
    const loaded = {
      plugin: defineReward({ name, score }),
      kind: "reward",
      name,
      key: "rewards[0]",
      source: name,
    } as const
    const reward = yield* openPlugin(loaded, undefined, { directory: "/", runDirectory: "/" })
    return { name, reward, ...(yield* Schema.decodeEffect(RewardSettings)(settings)) }
  })

const score = (...rewards: ReadonlyArray<ReturnType<typeof weighted>>) =>
  Effect.scoped(
    Effect.gen(function* () {
      const combined = yield* combineRewards(yield* Effect.all(rewards))
      return yield* combined.score(inputs)
    }),
  )

const byLength = weighted("length", ({ completion }) => completion.length)

describe("combineRewards", () => {
  it("has the settings that its documentation says", () => {
    expect(Schema.decodeSync(RewardSettings)({})).toEqual({
      weight: 1,
      timeout: 10,
      concurrency: 16,
      retries: 0,
      onError: "null",
    })
  })

  it.effect("adds up weighted scores, sync, async and Effect alike, and leaves out what does not apply", () =>
    Effect.gen(function* () {
      const scores = yield* score(
        weighted("sync", ({ completion }) => completion.length, { weight: 2 }),
        weighted("async", async ({ completion }) => (completion === "a" ? null : 10), { weight: 0.5 }),
        weighted("effect", () => Effect.succeed(-1)),
      )
      expect(scores).toEqual([
        { rewards: { sync: 1, async: null, effect: -1 }, reward: 1 },
        { rewards: { sync: 2, async: 10, effect: -1 }, reward: 8 },
        { rewards: { sync: 3, async: 10, effect: -1 }, reward: 10 },
      ])
    }),
  )

  it.effect("gives no reward where none applies", () =>
    Effect.gen(function* () {
      const scores = yield* score(weighted("choosy", ({ completion }) => (completion === "bb" ? 0 : null)))
      expect(scores.map(({ reward }) => reward)).toEqual([null, 0, null])
    }),
  )

  it.effect("keeps the order of the samples whatever the order of answers", () =>
    Effect.gen(function* () {
      const slowFirst = weighted("slow", ({ completion }) =>
        Effect.as(Effect.sleep((4 - completion.length) * 1000), completion.length),
      )
      const fiber = yield* Effect.forkChild(score(slowFirst))
      yield* TestClock.adjust(4000)
      expect((yield* Fiber.join(fiber)).map(({ reward }) => reward)).toEqual([1, 2, 3])
    }),
  )

  const bad: ReadonlyArray<[string, () => unknown, string]> = [
    [
      "throws",
      () => {
        throw new Error("boom")
      },
      "boom",
    ],
    ["rejects", () => Promise.reject(new Error("boom")), "boom"],
    ["fails", () => Effect.fail("boom"), "boom"],
    ["dies", () => Effect.die(new Error("boom")), "boom"],
    ["gives NaN", () => NaN, "it gave NaN instead of a finite number or null"],
    ["gives Infinity", () => Infinity, "it gave Infinity instead of a finite number or null"],
    ["gives nothing", () => undefined, "it gave a value of type undefined instead of a finite number or null"],
    ["gives text", () => "1", "it gave a value of type string instead of a finite number or null"],
  ]
  for (const [what, misbehave, reason] of bad) {
    it.effect(`a reward that ${what} costs that sample only, loudly`, () =>
      Effect.gen(function* () {
        const logged: Array<string> = []
        const logger = Logger.make(({ message }) => void logged.push(String(message)))
        const sometimes: ScoreFunction = ({ completion }) => (completion === "bb" ? (misbehave() as number) : 1)
        const scores = yield* score(weighted("flaky", sometimes), byLength).pipe(Effect.provide(Logger.layer([logger])))
        expect(scores.map(({ rewards }) => rewards.flaky)).toEqual([1, null, 1])
        expect(scores.map(({ reward }) => reward)).toEqual([2, 2, 4])
        expect(logged).toEqual([`the reward "flaky" failed on 1 of 3 samples: ${reason}`])
      }),
    )

    it.effect(`a reward that ${what} on every sample stops the run`, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(score(byLength, weighted("broken", misbehave as ScoreFunction)))
        expect(error).toMatchObject({ _tag: "RewardError", reward: "broken" })
        expect(error.message).toBe(`the reward "broken" failed on every sample: ${reason}`)
      }),
    )
  }

  it.effect("stops the run at the first failure if the configuration says so", () =>
    Effect.gen(function* () {
      const picky: ScoreFunction = ({ completion }) => (completion === "bb" ? NaN : 1)
      const error = yield* Effect.flip(score(weighted("picky", picky, { onError: "fail" })))
      expect(error.message).toBe(`the reward "picky" failed: it gave NaN instead of a finite number or null`)
    }),
  )

  it.effect("cuts a reward that never answers, and tells it so", () =>
    Effect.gen(function* () {
      const aborted: Array<string> = []
      const stuck: ScoreFunction = ({ completion }, { signal }) => {
        if (completion !== "bb") return 1
        signal.addEventListener("abort", () => void aborted.push(completion))
        return new Promise(() => {})
      }
      const fiber = yield* Effect.forkChild(score(weighted("stuck", stuck, { timeout: 3 }), byLength))
      yield* TestClock.adjust(3000)
      expect((yield* Fiber.join(fiber)).map(({ rewards }) => rewards.stuck)).toEqual([1, null, 1])
      expect(aborted).toEqual(["bb"])
    }),
  )

  it.effect("is not held up by a reward that cannot be interrupted", () =>
    Effect.gen(function* () {
      const deaf = weighted("deaf", () => Effect.uninterruptible(Effect.never), { timeout: 1 })
      const fiber = yield* Effect.forkChild(Effect.flip(score(deaf)))
      yield* TestClock.adjust(1000)
      expect((yield* Fiber.join(fiber)).message).toBe(
        `the reward "deaf" failed on every sample: it gave no score within 1 s`,
      )
    }),
  )

  it.effect("tries again as often as it is told", () =>
    Effect.gen(function* () {
      const attempts = new Map<string, number>()
      const third: ScoreFunction = ({ completion }) => {
        const attempt = (attempts.get(completion) ?? 0) + 1
        attempts.set(completion, attempt)
        if (attempt < 3) throw new Error("busy")
        return attempt
      }
      const fiber = yield* Effect.forkChild(score(weighted("busy", third, { retries: 2 })))
      yield* TestClock.adjust("1 second")
      expect((yield* Fiber.join(fiber)).map(({ reward }) => reward)).toEqual([3, 3, 3])
      attempts.clear()
      const once = yield* Effect.forkChild(Effect.flip(score(weighted("busy", third, { retries: 1 }))))
      yield* TestClock.adjust("1 second")
      expect((yield* Fiber.join(once)).message).toContain("busy")
    }),
  )

  it.effect("scores no more samples at once than allowed", () =>
    Effect.gen(function* () {
      let now = 0
      let most = 0
      const count: ScoreFunction = () =>
        Effect.gen(function* () {
          most = Math.max(most, ++now)
          yield* Effect.sleep(100)
          now--
          return 1
        })
      const fiber = yield* Effect.forkChild(score(weighted("count", count, { concurrency: 2 })))
      yield* TestClock.adjust(200)
      yield* Fiber.join(fiber)
      expect(most).toBe(2)
    }),
  )

  it.effect("refuses two rewards of one name, and provides the port", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(score(byLength, byLength))
      expect(error.message).toBe(`two rewards are called "length"; give one of them another "name"`)
      const names = yield* Effect.scoped(
        Effect.gen(function* () {
          return yield* Effect.provide(
            Effect.map(Reward, (reward) => reward.names),
            rewardLayer([yield* byLength]),
          )
        }),
      )
      expect(names).toEqual(["length"])
    }),
  )
})
