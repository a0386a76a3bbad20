import { Effect, Layer } from "effect"
import { CheckpointStore, combineRewards, combineTrackers, openPlugin, Reward, Task, Tracker } from "@rlpt/core"
import type { EngineError, PluginContext, PluginKind } from "@rlpt/core"
import {
  adapterOffLayer,
  criticLayer,
  frozenPolicyLayer,
  GpuDevice,
  policyLayer,
  referenceLayer,
  rewardModelLayer,
  sharedCriticLayer,
  type ModelSource,
  type PolicyOptions,
  type RunDirectory,
  type TrainingOptions,
} from "@rlpt/engines"
import type { RewardConfig, SftConfig, TrainConfig, TrainingConfig } from "./config/schema.ts"
import type { Prepared, PreparedPlugins } from "./configured-plugins.ts"
import type { ModelPlace, TrainedPlaces } from "./model-place.ts"
import { watchRewards } from "./reward-watchdog.ts"
import { Screen } from "./view/screen.ts"
import { viewTracker } from "./view/view-tracker.ts"

/** The one place where a configuration becomes the services that programs run on. */

const open = <K extends PluginKind>({ loaded, options }: Prepared<K>, context: PluginContext) =>
  openPlugin(loaded, options, context)

/** Where prompts come from and what scores the completions. */
export const taskLayer = ({ rewards, task }: PreparedPlugins, context: PluginContext) => {
  const openRewards = Effect.forEach(rewards, ({ name, settings, ...prepared }) =>
    Effect.map(open(prepared, context), (reward) => ({ ...settings, name, reward })),
  )
  return Layer.mergeAll(
    Layer.effect(Task, open(task, context)),
    Layer.effect(
      Reward,
      Effect.flatMap(openRewards, (opened) => combineRewards(watchRewards(opened))),
    ),
  )
}

/** Everything that a training program needs besides its models; all of it writes into `run`. */
export const runLayer = (plugins: PreparedPlugins, run: RunDirectory, root: string, maxSteps: number) => {
  const context: PluginContext = { directory: root, runDirectory: run.path }
  const trackers = Effect.gen(function* () {
    const view = yield* viewTracker(yield* Screen, maxSteps)
    const configured = yield* Effect.forEach(plugins.trackers, (tracker) => open(tracker, context))
    // The view comes last, so that what it shows is on disk.
    return combineTrackers([run.tracker, ...configured, view])
  })
  return Layer.mergeAll(
    taskLayer(plugins, context),
    Layer.effect(CheckpointStore, open(plugins.checkpoint, context)),
    Layer.effect(Tracker, trackers),
  )
}

const deviceOf = ({ adapter }: Pick<TrainConfig, "adapter">): Layer.Layer<GpuDevice, EngineError> =>
  GpuDevice.layer({ adapter })

/**
 * The models of `rlpt train`: the policy, and the reference and the critic if its algorithm has a use for them. The
 * reference of a policy with a new adapter is the policy without it.
 */
export const trainEngines = (config: TrainConfig, places: TrainedPlaces, device = deviceOf(config)) =>
  Layer.mergeAll(
    config.beta > 0 ? reference(config, places) : Layer.empty,
    config.algorithm === "ppo" ? critic(config, places) : Layer.empty,
  ).pipe(Layer.provideMerge(policyLayer(policy(config, places))), Layer.provideMerge(device))

/** What the policy is before it is trained. */
const reference = (config: TrainConfig, place: ModelPlace) => {
  if (place.adapter !== undefined) return frozenPolicyLayer
  return config.lora === undefined ? referenceLayer(source(config, place)) : adapterOffLayer
}

/** With an adapter, a critic that starts from the policy's model shares its weights. */
const critic = (config: TrainConfig, { critic: own, ...place }: TrainedPlaces) => {
  if (own === undefined && (config.lora || place.adapter)) return sharedCriticLayer(optimizer(config))
  return criticLayer({ ...source(config, own ?? place), ...lora(config) }, optimizer(config))
}

const source = (
  { contextLength, dtype }: Pick<TrainConfig, "contextLength" | "dtype">,
  { adapter, model }: ModelPlace,
): ModelSource => ({
  model,
  adapter,
  contextLength,
  dtype,
})

/** The model of `rlpt sft`. */
export const sftEngines = (config: SftConfig, place: ModelPlace, device = deviceOf(config)) =>
  policyLayer({
    ...policy(config, place),
    ...(config.fromScratch && { fromScratch: { seed: config.seed } }),
  }).pipe(Layer.provideMerge(device))

/** The model of `rlpt reward`. */
export const rewardEngines = (config: RewardConfig, place: ModelPlace, device = deviceOf(config)) =>
  rewardModelLayer(policy(config, place)).pipe(Layer.provideMerge(device))

/** A model to sample from. */
export const samplingEngines = (adapter: TrainConfig["adapter"], place: ModelPlace, contextLength?: number) =>
  policyLayer(source({ ...(contextLength && { contextLength }) }, place)).pipe(
    Layer.provideMerge(GpuDevice.layer({ adapter })),
  )

const policy = (
  config: TrainingConfig,
  place: ModelPlace,
): PolicyOptions & { readonly optimizer: TrainingOptions } => ({
  ...source(config, place),
  optimizer: optimizer(config),
  trainable: config.trainable,
  ...lora(config),
})

const lora = (config: TrainingConfig) => config.lora && { lora: { ...config.lora, seed: config.seed } }

const optimizer = (config: TrainingConfig): TrainingOptions => ({
  betas: [config.adamBeta1, config.adamBeta2],
  eps: config.adamEpsilon,
  weightDecay: config.weightDecay,
  gradientCheckpointing: config.gradientCheckpointing,
})
