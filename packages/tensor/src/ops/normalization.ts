import { showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import type { Tensor } from "../graph/tensor.ts"

export interface NormOptions {
  /** [C], multiplied with the normalised channel. */
  readonly weight?: Tensor
  /** [C], added to it. */
  readonly bias?: Tensor
  readonly eps?: number
}

/** (x − mean) / √(variance + eps) · weight + bias, one weight and bias a channel. */
const normalized = (x: Tensor, mean: Tensor, variance: Tensor, { weight, bias, eps = 1e-5 }: NormOptions): Tensor => {
  const perChannel = (vector: Tensor) => vector.reshape([-1, ...x.shape.slice(2).map(() => 1)])
  const scaled = x.sub(mean).mul(variance.add(eps).rsqrt())
  const weighted = weight ? scaled.mul(perChannel(weight)) : scaled
  return bias ? weighted.add(perChannel(bias)) : weighted
}

/**
 * Each group of channels of each example has mean 0 and variance 1 (Y. Wu and K. He, 2018). x: [B, C, …]; `groups`
 * divides C; with as many groups as channels this is instance norm.
 */
export const groupNorm = (x: Tensor, groups: number, options: NormOptions = {}): Tensor => {
  const [batch, channels, ...rest] = x.shape
  if (channels === undefined || channels % groups !== 0)
    throw new ShapeError("groupNorm", `${groups} groups do not divide the channels of ${showShape(x.shape)}`)
  const grouped = x.reshape([batch!, groups, channels / groups, ...rest])
  const axes = grouped.shape.map((_, axis) => axis).slice(2)
  const spread = (perGroup: Tensor) => perGroup.broadcastTo(grouped.shape).reshape(x.shape)
  const mean = spread(grouped.mean(axes, { keepDims: true }))
  const variance = spread(grouped.var(axes, { keepDims: true, correction: 0 }))
  return normalized(x, mean, variance, options)
}

export interface BatchNormOptions extends NormOptions {
  /** Statistics of the channels, [C] each, in place of the batch's own: at inference, those of training. */
  readonly statistics?: { readonly mean: Tensor; readonly variance: Tensor }
}

/** Mean and (biased) variance of each channel over the batch and all places: [C] each. x: [B, C, …]. */
export const batchStatistics = (x: Tensor): { readonly mean: Tensor; readonly variance: Tensor } => {
  const axes = x.shape.map((_, axis) => axis).filter((axis) => axis !== 1)
  return { mean: x.mean(axes), variance: x.var(axes, { correction: 0 }) }
}

/** Each channel has mean 0 and variance 1 over the batch (S. Ioffe and C. Szegedy, 2015). x: [B, C, …]. */
export const batchNorm = (x: Tensor, { statistics, ...options }: BatchNormOptions = {}): Tensor => {
  if (x.shape.length < 2) throw new ShapeError("batchNorm", `needs [B, C, …], got ${showShape(x.shape)}`)
  const { mean, variance } = statistics ?? batchStatistics(x)
  const perChannel = (vector: Tensor) => vector.reshape([x.shape[1]!, ...x.shape.slice(2).map(() => 1)])
  return normalized(x, perChannel(mean), perChannel(variance), options)
}
