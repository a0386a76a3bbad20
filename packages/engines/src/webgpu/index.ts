export { GpuDevice } from "./device.ts"
export { criticLayer, PolicyInfo, policyLayer, referenceLayer, type PolicyOptions } from "./layers.ts"
export { makeModelEngine } from "./model-engine.ts"
export { makeRolloutEngine, type RolloutOptions } from "./rollout-engine.ts"
