import { computeType, sizeOf } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import type { ReduceName } from "../graph/node.ts"
import type { Tensor } from "../graph/tensor.ts"
import { axesOf, type Axes } from "./axes.ts"

export interface ReduceOptions {
  /** Leaves reduced axes in the shape, with size 1. */
  readonly keepDims?: boolean
}

export interface VarianceOptions extends ReduceOptions {
  /** Subtracted from the count that the sum of squares is divided by: 1 (Bessel's) by default, as in PyTorch. */
  readonly correction?: number
}

/** Folds `axes` of `x`: in row-major order, by a tree of 64s: see program/reduce.ts. */
export const reduce = (
  x: Tensor,
  fn: ReduceName,
  axes?: Axes,
  { keepDims = false }: ReduceOptions = {},
  operation: string = fn,
): Tensor => {
  const { shape } = x
  const folded = axesOf(operation, shape, axes)
  if (folded.length === 0) return x.cast(computeType(x.dtype))
  const rest = shape.map((_, axis) => axis).filter((axis) => !folded.includes(axis))
  const [first, last] = [folded[0]!, folded.at(-1)!]
  const apart = last - first + 1 !== folded.length
  const source = apart ? x.transpose([...rest, ...folded]) : x
  const length = sizeOf(folded.map((axis) => shape[axis]!))
  const outer = sizeOf(rest.filter((axis) => apart || axis < first).map((axis) => shape[axis]!))
  const inner = apart ? 1 : sizeOf(shape.slice(last + 1))
  if (length === 0 && (fn === "max" || fn === "min")) throw new ShapeError(operation, "there is no element to choose")
  const short = rest.map((axis) => shape[axis]!)
  const result = source.derive({ kind: "reduce", fn, outer, length, inner }, [source], short, computeType(x.dtype))
  return keepDims ? result.reshape(shape.map((dim, axis) => (folded.includes(axis) ? 1 : dim))) : result
}

const countOf = (operation: string, { shape }: Tensor, axes?: Axes): number =>
  sizeOf(axesOf(operation, shape, axes).map((axis) => shape[axis]!))

export const mean = (x: Tensor, axes?: Axes, options?: ReduceOptions, operation = "mean"): Tensor => {
  const count = countOf(operation, x, axes)
  return x.cast("f32").sum(axes, options).div(count)
}

/** Mean square distance from the mean, the mean taken first: no digits cancel. */
export const variance = (
  x: Tensor,
  axes?: Axes,
  { correction = 1, ...options }: VarianceOptions = {},
  operation = "var",
): Tensor => {
  const values = x.cast("f32")
  const distance = values.sub(mean(values, axes, { keepDims: true }, operation))
  return distance
    .square()
    .sum(axes, options)
    .div(Math.max(0, countOf(operation, x, axes) - correction))
}

/** log Σ eˣ, the largest element taken out first; −∞ where there is none. */
export const logSumExp = (values: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor => {
  const x = values.cast("f32")
  if (countOf("logSumExp", x, axes) === 0) return x.sum(axes, options).add(Number.NEGATIVE_INFINITY)
  const top = x.max(axes, { keepDims: true }).stopGradient()
  // Rows of −∞ alone have no distance from their maximum.
  const shift = top.isFinite().where(top, 0)
  const sum = x.sub(shift).exp().sum(axes, { keepDims: true }).log().add(shift)
  return options.keepDims ? sum : sum.squeeze(axesOf("logSumExp", x.shape, axes))
}

/** √Σ x². At 0 its gradient is 0. */
export const norm = (x: Tensor, axes?: Axes, options?: ReduceOptions): Tensor => {
  const squares = reduce(x.cast("f32").square(), "sum", axes, options, "norm")
  const zero = squares.equal(0)
  return zero.where(0, zero.where(1, squares).sqrt())
}
