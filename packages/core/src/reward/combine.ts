import { Cause, Data, Effect, Fiber, Layer, Result, Schedule, Schema } from "effect"
import { causeMessage } from "../plugin/errors.ts"
import { Reward, RewardError, type RewardInput, type Score } from "../ports/reward.ts"
import type { RewardFunction } from "./define.ts"

const withDefault = <A extends Schema.Top & { readonly Encoded: unknown }>(schema: A, value: A["Encoded"]) =>
  schema.pipe(Schema.withDecodingDefaultKey(Effect.succeed(value)))

/** How one reward counts and what it may cost. Its fields stand beside `use` in a configuration. */
export const RewardSettings = Schema.Struct({
  /** Factor of this reward in the sum. */
  weight: withDefault(Schema.Finite, 1),
  /** Seconds that one score may take. A synchronous endless loop cannot be cut: it never gives control back. */
  timeout: withDefault(Schema.Finite.check(Schema.isGreaterThan(0)), 10),
  /** Samples scored at the same time. */
  concurrency: withDefault(Schema.Int.check(Schema.isGreaterThan(0)), 16),
  /** Further attempts after a failure, 0.1 s, 0.2 s, 0.4 s, ... apart. */
  retries: withDefault(Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)), 0),
  /**
   * What a failure (a throw, a time-out, a score that is not a finite number) costs: `null` leaves that sample without
   * this reward, `fail` stops the run. When every sample of a call fails the run stops either way.
   */
  onError: withDefault(Schema.Literals(["null", "fail"]), "null"),
})
export type RewardSettings = typeof RewardSettings.Type

export interface WeightedReward extends RewardSettings {
  /** Unique in the run: metrics and samples carry it. */
  readonly name: string
  readonly reward: RewardFunction
}

const describe = (value: unknown) => (typeof value === "number" ? String(value) : `a value of type ${typeof value}`)

/** Why an answer, or the lack of one, does not count. */
class Unusable extends Data.TaggedError("Unusable")<{ readonly message: string }> {}

const checked = (score: unknown): Effect.Effect<number | null, Unusable> =>
  score === null || Number.isFinite(score)
    ? Effect.succeed(score as number | null)
    : Effect.fail(new Unusable({ message: `it gave ${describe(score)} instead of a finite number or null` }))

/** Waits for `effect` without being held up by it: interrupted, it leaves at once even if `effect` cannot be. */
const abandonable = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.flatMap(Effect.forkDetach(effect), (fiber) =>
    Effect.onInterrupt(Fiber.join(fiber), () => Effect.sync(() => fiber.interruptUnsafe())),
  )

const scoreOne = ({ reward, timeout, retries }: WeightedReward, input: RewardInput) =>
  Effect.suspend(() => reward.score(input)).pipe(
    Effect.flatMap(checked),
    abandonable,
    Effect.timeoutOrElse({
      duration: timeout * 1000,
      orElse: () => Effect.fail(new Unusable({ message: `it gave no score within ${timeout} s` })),
    }),
    Effect.catchCause((cause) => Effect.fail(Cause.squash(cause))),
    Effect.retry({ times: retries, schedule: Schedule.exponential("100 millis") }),
  )

/** Scores of one reward, in the order of `inputs`. */
const scoreAll = Effect.fnUntraced(function* (
  weighted: WeightedReward,
  inputs: ReadonlyArray<RewardInput>,
): Effect.fn.Return<ReadonlyArray<number | null>, RewardError> {
  const { name, onError, concurrency } = weighted
  const failed = (cause: unknown, extent: string) =>
    new RewardError({ reward: name, message: `the reward "${name}" failed${extent}: ${causeMessage(cause)}`, cause })

  const results = yield* Effect.forEach(
    inputs,
    (input) =>
      onError === "fail"
        ? Effect.mapBoth(scoreOne(weighted, input), {
            onFailure: (cause) => failed(cause, ""),
            onSuccess: Result.succeed,
          })
        : Effect.result(scoreOne(weighted, input)),
    { concurrency },
  )
  const failures = results.filter(Result.isFailure)
  const [first] = failures
  if (first !== undefined) {
    if (failures.length === inputs.length) return yield* failed(first.failure, " on every sample")
    yield* Effect.logWarning(failed(first.failure, ` on ${failures.length} of ${inputs.length} samples`).message)
  }
  return results.map((result) => (Result.isSuccess(result) ? result.success : null))
})

/**
 * The rewards of a run as one: the weighted sum of those that apply to a sample, `null` if none does. They run side by
 * side, and the result depends on neither their order of completion nor on the batch.
 */
export const combineRewards = Effect.fnUntraced(function* (
  rewards: ReadonlyArray<WeightedReward>,
): Effect.fn.Return<Reward["Service"], RewardError> {
  const names = rewards.map(({ name }) => name)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) {
    const message = `two rewards are called "${twice}"; give one of them another "name"`
    return yield* new RewardError({ reward: twice, message })
  }
  const score = Effect.fn("Reward.score")(function* (inputs: ReadonlyArray<RewardInput>) {
    const columns = yield* Effect.forEach(rewards, (weighted) => scoreAll(weighted, inputs), {
      concurrency: "unbounded",
    })
    return inputs.map((_, row): Score => {
      const own = rewards.map(({ name, weight }, index) => ({ name, weight, score: columns[index]?.[row] ?? null }))
      const applicable = own.flatMap(({ weight, score }) => (score === null ? [] : [weight * score]))
      return {
        rewards: Object.fromEntries(own.map(({ name, score }) => [name, score])),
        reward: applicable.length === 0 ? null : applicable.reduce((sum, part) => sum + part),
      }
    })
  })
  return { names, score }
})

/** Provides the `Reward` port. */
export const rewardLayer = (rewards: ReadonlyArray<WeightedReward>): Layer.Layer<Reward, RewardError> =>
  Layer.effect(Reward, combineRewards(rewards))
