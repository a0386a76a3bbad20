import { Effect, Predicate, type Schema, type Scope } from "effect"
import type { CheckpointStore } from "../ports/checkpoint-store.ts"
import type { ModelEngine, Policy } from "../ports/model-engine.ts"
import type { RolloutEngine } from "../ports/rollout-engine.ts"
import type { Task } from "../ports/task.ts"
import type { Tokenizer } from "../ports/tokenizer.ts"
import type { Tracker } from "../ports/tracker.ts"
import type { RewardFunction } from "../reward/define.ts"
import { decodeOptions, optionsJsonSchema, type NoOptions, type OptionProblem } from "./options.ts"

/** Version of the contract between rlpt and its plugins. Raised only when plugins written for the last one break. */
export const pluginApi = 1

/** Marks a plugin. A string and not a symbol, so that plugins built against another copy of this package are known. */
export const pluginTypeId = "~@rlpt/core/Plugin"

/** What a plugin of each kind provides. */
export interface PluginServices {
  readonly reward: RewardFunction
  readonly task: Task["Service"]
  readonly "checkpoint-store": CheckpointStore["Service"]
  readonly tracker: Tracker["Service"]
  readonly "rollout-backend": RolloutEngine["Service"]
  readonly "model-backend": ModelEngine
}

/** What a plugin of each kind may ask of the run, besides a scope that closes when the run ends. */
export interface PluginRequirements {
  readonly reward: never
  readonly task: never
  readonly "checkpoint-store": never
  readonly tracker: never
  readonly "rollout-backend": Policy | Tokenizer
  readonly "model-backend": Tokenizer
}

export type PluginKind = keyof PluginServices

export const pluginKinds: ReadonlyArray<PluginKind> = [
  "reward",
  "task",
  "checkpoint-store",
  "tracker",
  "rollout-backend",
  "model-backend",
]

export interface PluginMarker<K extends PluginKind = PluginKind> {
  readonly api: number
  readonly kind: K
  readonly name: string
}

/** Where a plugin finds itself. Both are absolute paths. */
export interface PluginContext {
  /** Folder of the configuration file: relative paths in options start here. */
  readonly directory: string
  /** Folder that this run writes to. */
  readonly runDirectory: string
}

/** Starts a configured plugin. It lives until the scope closes. */
export type OpenPlugin<K extends PluginKind> = (
  context: PluginContext,
) => Effect.Effect<PluginServices[K], unknown, Scope.Scope | PluginRequirements[K]>

/**
 * What a plugin's module exports by default. Only plain data and effects cross this boundary, never a `Schema`: those
 * cannot be decoded by another copy of effect, and a plugin may well bring one.
 */
export interface Plugin<K extends PluginKind = PluginKind> {
  readonly [pluginTypeId]: PluginMarker<K>
  /** Decodes options and starts nothing yet; fails with every problem found. */
  readonly configure: (options: unknown) => Effect.Effect<OpenPlugin<K>, ReadonlyArray<OptionProblem>>
  /** JSON Schema of the options. */
  readonly optionsSchema: () => unknown
}

/** A value, a promise of it or an effect that makes it: plugins may be written in either style. */
export type Settleable<A, R = never> = A | Promise<A> | Effect.Effect<A, unknown, R>

/**
 * Runs code of any of these styles. A throw, a rejection and a failure all arrive as failures; `signal` fires when a
 * promise is given up. Synchronous code stays synchronous: nothing waits for a promise that nobody made.
 */
export const settle = <A, R = never>(
  evaluate: (signal: AbortSignal) => Settleable<A, R>,
): Effect.Effect<A, unknown, R> =>
  Effect.callback<A, unknown, R>((resume, signal) => {
    try {
      const value = evaluate(signal)
      if (Effect.isEffect(value)) resume(value as Effect.Effect<A, unknown, R>)
      else if (Predicate.isPromiseLike(value)) {
        value.then(
          (settled) => resume(Effect.succeed(settled as A)),
          (cause: unknown) => resume(Effect.fail(cause)),
        )
      } else resume(Effect.succeed(value))
    } catch (cause) {
      resume(Effect.fail(cause))
    }
  })

export interface PluginDefinition<K extends PluginKind, Options> {
  /** Short name that configurations use; the same as in package.json. */
  readonly name: string
  /** Decodes the options. Without it the plugin takes none. */
  readonly options?: Schema.Decoder<Options>
  readonly make: (
    options: Options,
    context: PluginContext,
  ) => Settleable<PluginServices[K], Scope.Scope | PluginRequirements[K]>
}

const define =
  <K extends PluginKind>(kind: K) =>
  <Options = NoOptions>(definition: PluginDefinition<K, Options>): Plugin<K> => ({
    [pluginTypeId]: { api: pluginApi, kind, name: definition.name },
    configure: (raw) =>
      Effect.map(
        decodeOptions(definition.options, raw),
        (options) => (context) => settle(() => definition.make(options, context)),
      ),
    optionsSchema: () => optionsJsonSchema(definition.options),
  })

/** A plugin whose `make` gives a {@link RewardFunction}. Use `defineReward`, which takes plain functions. */
export const defineRewardFunction = define("reward")

/** A source of prompts. */
export const defineTask = define("task")

/** A place that keeps checkpoints. */
export const defineCheckpointStore = define("checkpoint-store")

/** A listener to metrics and samples. */
export const defineTracker = define("tracker")

/** A sampler that runs elsewhere. It may read the policy (to ship weights) and its tokenizer. */
export const defineRolloutBackend = define("rollout-backend")

/** A trainer that runs elsewhere. */
export const defineModelBackend = define("model-backend")
