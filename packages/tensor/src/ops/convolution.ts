import { showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import type { Tensor } from "../graph/tensor.ts"
import { placesOf, unfold, type Pair, type Window } from "../kernels/unfold.ts"

export interface ConvolutionOptions<Size> {
  /** [O], added to every place. */
  readonly bias?: Tensor
  readonly stride?: Size
  /** Zeros on every side. */
  readonly padding?: Size
  /** Distance between the elements of the window. */
  readonly dilation?: Size
  /** Each group of output channels sees its own group of input channels only. */
  readonly groups?: number
}

const pairOf = (size: number | Pair): Pair => (typeof size === "number" ? [size, size] : size)

/**
 * Cross-correlation of images with a window, PyTorch's `conv2d`. x: [B, C, H, W]; weight: [O, C/groups, h, w]; result:
 * [B, O, ⌊(H + 2·padding − dilation·(h − 1) − 1) / stride⌋ + 1, …]. The windows are laid out as rows of a matrix (K.
 * Chellapilla, S. Puri and P. Simard, 2006) that one product multiplies with the weights.
 */
export const conv2d = (x: Tensor, weight: Tensor, options: ConvolutionOptions<number | Pair> = {}): Tensor => {
  checkOperands("conv2d", x, weight, ["B, C, H, W", "h, w"], options)
  return convolve("conv2d", x, weight, options)
}

/** {@link conv2d} along one axis. x: [B, C, L]; weight: [O, C/groups, l]; result: [B, O, places]. */
export const conv1d = (
  x: Tensor,
  weight: Tensor,
  { stride = 1, padding = 0, dilation = 1, ...options }: ConvolutionOptions<number> = {},
): Tensor => {
  checkOperands("conv1d", x, weight, ["B, C, L", "l"], options)
  const flat = { stride: [1, stride], padding: [0, padding], dilation: [1, dilation] } as const
  return convolve("conv1d", x.unsqueeze(2), weight.unsqueeze(2), { ...options, ...flat }).squeeze(2)
}

const checkOperands = (
  operation: string,
  x: Tensor,
  weight: Tensor,
  [image, window]: readonly [image: string, window: string],
  { bias, groups = 1 }: Pick<ConvolutionOptions<unknown>, "bias" | "groups">,
): void => {
  const [out, perGroup] = weight.shape
  const rank = image.split(",").length
  const fits = x.shape.length === rank && weight.shape.length === rank
  if (!fits || x.shape[1] !== perGroup! * groups || out! % groups !== 0)
    throw new ShapeError(
      operation,
      `x ${showShape(x.shape)} and weight ${showShape(weight.shape)} must be [${image}] and [O, C/${groups}, ${window}]`,
    )
  if (bias && showShape(bias.shape) !== showShape([out!]))
    throw new ShapeError(operation, `the bias must be [${out}], not ${showShape(bias.shape)}`)
}

const convolve = (
  operation: string,
  x: Tensor,
  weight: Tensor,
  { bias, stride = 1, padding = 0, dilation = 1, groups = 1 }: ConvolutionOptions<number | Pair>,
): Tensor => {
  const [out, perGroup, height, width] = weight.shape as [number, number, number, number]
  const window: Window = {
    size: [height, width],
    stride: pairOf(stride),
    padding: pairOf(padding),
    dilation: pairOf(dilation),
    groups,
  }
  const [rows, columns] = placesOf(operation, x.shape, window)
  const batch = x.shape[0]!
  const matrix = weight.reshape([groups, out / groups, perGroup * height * width])
  const seen = unfold(x, window)
  const product =
    groups === 1
      ? seen.squeeze(0).matmul(matrix.squeeze(0), { transposeB: true })
      : seen.matmul(matrix, { transposeB: true })
  const result = product
    .reshape([groups, batch, rows, columns, out / groups])
    .transpose([1, 0, 4, 2, 3])
    .reshape([batch, out, rows, columns])
  return bias ? result.add(bias.reshape([out, 1, 1])) : result
}

export interface PoolOptions {
  /** Default: the size of the window, so that windows do not overlap. */
  readonly stride?: number | Pair
}

/** Folds what a window sees of each channel: [B, C, H, W] to [B, C, rows, columns]. */
const pool = (
  operation: string,
  x: Tensor,
  size: number | Pair,
  { stride = size }: PoolOptions,
  fold: (seen: Tensor) => Tensor,
): Tensor => {
  const channels = x.shape[1] ?? 1
  const window: Window = {
    size: pairOf(size),
    stride: pairOf(stride),
    padding: [0, 0],
    dilation: [1, 1],
    groups: channels,
  }
  const [rows, columns] = placesOf(operation, x.shape, window)
  return fold(unfold(x, window)).reshape([channels, x.shape[0]!, rows, columns]).transpose([1, 0, 2, 3])
}

/** The largest element that each window sees. */
export const maxPool2d = (x: Tensor, size: number | Pair, options: PoolOptions = {}): Tensor =>
  pool("maxPool2d", x, size, options, (seen) => seen.max(-1))

/** The mean of what each window sees. */
export const avgPool2d = (x: Tensor, size: number | Pair, options: PoolOptions = {}): Tensor =>
  pool("avgPool2d", x, size, options, (seen) => seen.mean(-1))
