export { scoringBytes } from "./batch.ts"
export { GpuDevice } from "./device.ts"
export {
  adapterOffLayer,
  criticLayer,
  exportPolicyAdapter,
  frozenPolicyLayer,
  PolicyInfo,
  policyLayer,
  referenceLayer,
  rewardModelLayer,
  sharedCriticLayer,
  type ModelSource,
  type PolicyOptions,
} from "./layers.ts"
export { makeModelEngine, type TrainingOptions } from "./model-engine.ts"
export { makeRolloutEngine, type RolloutOptions } from "./rollout-engine.ts"
