import { Effect, type Schema, type Scope } from "effect"
import { defineRewardFunction, settle, type Plugin, type PluginContext, type Settleable } from "../plugin/definition.ts"
import type { NoOptions } from "../plugin/options.ts"
import type { RewardInput } from "../ports/reward.ts"

/** One reward, before names, weights, time-outs and failures are settled by `combineRewards`. */
export interface RewardFunction {
  readonly score: (input: RewardInput) => Effect.Effect<number | null, unknown>
}

export interface ScoreContext<Options> {
  readonly options: Options
  /** Fires when a promise of this reward is given up, for lack of time or because the run stops; hand it to `fetch`. */
  readonly signal: AbortSignal
}

/** Scores one completion: sync, async or as an Effect. `null` says that this reward does not apply to the sample. */
export type ScoreFunction<Options = NoOptions> = (
  input: RewardInput,
  context: ScoreContext<Options>,
) => Settleable<number | null>

interface RewardBase<Options> {
  /** Short name that configurations use; the same as in package.json. */
  readonly name: string
  /** Decodes the options. Without it the reward takes none. */
  readonly options?: Schema.Decoder<Options>
}

/** A reward is a function ... */
export interface RewardDefinition<Options> extends RewardBase<Options> {
  readonly score: ScoreFunction<Options>
}

/** ... or is made from its options once, when there is something to prepare or to open. */
export interface RewardFactory<Options> extends RewardBase<Options> {
  readonly make: (options: Options, context: PluginContext) => Settleable<ScoreFunction<Options>, Scope.Scope>
}

/**
 * Makes a reward plugin.
 *
 * ```ts
 * export default defineReward({
 *   name: "brevity",
 *   score: ({ completion, columns }) => (completion.includes(String(columns.answer)) ? 1 / completion.length : 0),
 * })
 * ```
 */
export const defineReward = <Options = NoOptions>(
  definition: RewardDefinition<Options> | RewardFactory<Options>,
): Plugin<"reward"> =>
  defineRewardFunction<Options>({
    name: definition.name,
    ...(definition.options && { options: definition.options }),
    make: (options, context) =>
      Effect.map(
        "make" in definition ? settle(() => definition.make(options, context)) : Effect.succeed(definition.score),
        (score): RewardFunction => ({ score: (input) => settle((signal) => score(input, { options, signal })) }),
      ),
  })
