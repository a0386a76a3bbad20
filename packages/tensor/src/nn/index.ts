export { fromSafetensors, toSafetensors } from "./files.ts"
export {
  Conv2d,
  Dropout,
  Embedding,
  LayerNorm,
  Linear,
  RMSNorm,
  Sequential,
  type Conv2dLayerOptions,
  type LinearLayerOptions,
  type Seeded,
} from "./layers.ts"
export { Module, type HostTensor, type StateDict } from "./module.ts"
export { shuffledBatches, trainStep, type Steps } from "./train.ts"
