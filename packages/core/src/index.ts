export * from "./chat.ts"
export * from "./loss.ts"
export * from "./sampling.ts"
export * from "./trackers.ts"
export * from "./trajectory.ts"
export {
  defineCheckpointStore,
  defineModelBackend,
  defineRolloutBackend,
  defineTask,
  defineTracker,
  pluginApi,
  pluginKinds,
  type OpenPlugin,
  type Plugin,
  type PluginContext,
  type PluginDefinition,
  type PluginKind,
  type PluginRequirements,
  type PluginServices,
  type Settleable,
} from "./plugin/definition.ts"
export * from "./plugin/discovery.ts"
export {
  BadPluginOptions,
  DuplicatePlugin,
  NotAPlugin,
  PluginApiMismatch,
  PluginLoadFailed,
  PluginNotAllowed,
  PluginNotFound,
  type PluginError,
} from "./plugin/errors.ts"
export * from "./plugin/loading.ts"
export { similarNames } from "./plugin/similar.ts"
export type { NoOptions, OptionProblem } from "./plugin/options.ts"
export * from "./ports/checkpoint-store.ts"
export * from "./ports/model-engine.ts"
export * from "./ports/reward.ts"
export * from "./ports/rollout-engine.ts"
export * from "./ports/task.ts"
export * from "./ports/tokenizer.ts"
export * from "./ports/tracker.ts"
export * from "./reward/combine.ts"
export * from "./reward/define.ts"
