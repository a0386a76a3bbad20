/// <reference lib="esnext.disposable" preserve="true" />
export type { AdapterInfo, AdapterKind, SkippedAdapter } from "./adapter/info.ts"
export { AdapterError } from "./adapter/error.ts"
export { requestGpu, type RequestGpuOptions } from "./adapter/request.ts"
export type { Compiled, Outputs } from "./device/compiled.ts"
export type { Explanation } from "./device/explanation.ts"
export type { KernelProfile, Profile } from "./device/profile.ts"
export type { TimingMethod } from "./program/timing.ts"
export { Gpu } from "./device/gpu.ts"
export type { WrongKernel } from "./device/self-test.ts"
export type { Tuning } from "./device/traits.ts"
export type { Forms } from "./graph/fused-op.ts"
export { linearKernel, type Rating, type Ratings } from "./kernels/matmul/choice.ts"
export type { Kept, Shelf } from "./tuning/shelf.ts"
export type { TunePolicy } from "./tuning/tuner.ts"
export { openDevice, type OpenDeviceOptions } from "./device/open.ts"
export type { MemoryReport } from "./device/pool.ts"
export { isRehearsal, plan, rehearsalOf, type RehearsalOptions } from "./device/rehearsal.ts"
export type { ComputeType, DType, HalfType, HostArray, PackedType, QuantizedType, Shape } from "./dtype.ts"
export { DeviceLostError, KernelError, OutOfMemoryError, ShapeError, TensorError, ValidationError } from "./errors.ts"
export { grad, valueAndGrad, type ValueAndGrad } from "./graph/autograd.ts"
export { checkpoint } from "./graph/checkpoint.ts"
export { customGradient } from "./graph/custom.ts"
export type { GradientRule } from "./graph/node.ts"
export { Tensor } from "./graph/tensor.ts"
export { linear, type LinearOptions, type MatmulOptions } from "./kernels/matmul/matmul.ts"
export * from "./io/safetensors.ts"
export { isQuantized, quantizedWords, type QuantizedNumbers } from "./quantized.ts"
export { concat, stack } from "./kernels/concat.ts"
export { attention, type AttentionOptions } from "./kernels/attention/attention.ts"
export { embedding } from "./kernels/embedding.ts"
export { advanceDecoding, type DecodeState } from "./kernels/decode.ts"
export { layerNorm } from "./kernels/layer-norm.ts"
export {
  logProbChunkBytes,
  logProbsOf,
  tokenLogProbs,
  type LogProbOptions,
  type TokenLogProbOptions,
  type TokenLogProbs,
} from "./kernels/log-prob.ts"
export { qkNorm, type QkNormOptions } from "./kernels/qk-norm.ts"
export { rmsNorm } from "./kernels/rms-norm.ts"
export {
  rope,
  ropeFrequencies,
  ropeTable,
  splitHeads,
  type Heads,
  type HeadShape,
  type RopeOptions,
  type RopeTableOptions,
} from "./kernels/rope.ts"
export { sample, type SampleOptions } from "./kernels/sample.ts"
export { softCap } from "./kernels/soft-cap.ts"
export { glu, swiglu, type Activation } from "./kernels/glu.ts"
export { gluLinear } from "./kernels/matmul/glu-linear.ts"
export { adam, Adam, adamw, AdamW, type AdamWOptions } from "./optim/adamw.ts"
export { clipGradNorm, type Clipped } from "./optim/clip.ts"
export { lion, Lion, type LionOptions } from "./optim/lion.ts"
export { muon, Muon, orthogonalize, type MuonOptions } from "./optim/muon.ts"
export { Optimizer, type UpdateOptions } from "./optim/optimizer.ts"
export { sgd, Sgd, type SgdOptions } from "./optim/sgd.ts"
export { together, type Together } from "./optim/together.ts"
export type { Axes } from "./ops/axes.ts"
export { avgPool2d, conv1d, conv2d, maxPool2d, type ConvolutionOptions, type PoolOptions } from "./ops/convolution.ts"
export { einsum } from "./ops/einsum.ts"
export { matmul } from "./ops/matmul.ts"
export { batchNorm, batchStatistics, groupNorm, type BatchNormOptions, type NormOptions } from "./ops/normalization.ts"
export type { ReduceOptions, VarianceOptions } from "./ops/reduce.ts"
export type { Range } from "./ops/shape.ts"
export type { CrossEntropyOptions } from "./kernels/cross-entropy.ts"
export type { ScanOptions } from "./kernels/scan.ts"
export type { Sorted, SortOptions } from "./kernels/sort.ts"
export type { Pair } from "./kernels/unfold.ts"
export { dropout } from "./kernels/random.ts"
export { pcg4d } from "./random/host.ts"
export * as random from "./random/index.ts"
export type { Leak } from "./device/leaks.ts"
export { Scope, type ScopeReport } from "./device/scope.ts"
export { NpyError, readNpy, writeNpy, type NpyArray } from "./io/npy.ts"
export * as nn from "./nn/index.ts"
export { scaledDotProductAttention, type DotProductAttentionOptions } from "./ops/attention.ts"
export type { Nested } from "./device/host-data.ts"
