import { computeType, showShape, sizeOf } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import type { Tensor } from "../graph/tensor.ts"
import { placesOf, unfold, type Pair, type Window } from "../kernels/unfold.ts"

export interface ConvolutionOptions<Size> {
  /** [O], added to every place. */
  readonly bias?: Tensor
  readonly stride?: Size
  /** Zeros on every side; "same": as many as keep the size, an odd one at the end. */
  readonly padding?: Size | "same"
  /** Distance between the elements of the window. */
  readonly dilation?: Size
  /** Each group of output channels sees its own group of input channels only. */
  readonly groups?: number
}

/**
 * Cross-correlation of images with a window, PyTorch's `conv2d`. x: [B, C, H, W]; weight: [O, C/groups, h, w]; result:
 * [B, O, ⌊(H + 2·padding − dilation·(h − 1) − 1) / stride⌋ + 1, …]. The windows are laid out as rows of a matrix (K.
 * Chellapilla, S. Puri and P. Simard, 2006) that one product multiplies with the weights.
 */
export const conv2d = (
  x: Tensor,
  weight: Tensor,
  { bias, stride = 1, padding = 0, dilation = 1, groups = 1 }: ConvolutionOptions<number | Pair> = {},
): Tensor => {
  checkOperands("conv2d", x, weight, ["B, C, H, W", "h, w"], bias, groups)
  const pair = (name: string, size: number | Pair) => pairOf("conv2d", name, size)
  const window = {
    stride: pair("stride", stride),
    padding: padding === "same" ? padding : pair("padding", padding),
    dilation: pair("dilation", dilation),
    groups,
  }
  return convolve("conv2d", x, weight, window, bias)
}

/** {@link conv2d} along one axis. x: [B, C, L]; weight: [O, C/groups, l]; result: [B, O, places]. */
export const conv1d = (
  x: Tensor,
  weight: Tensor,
  { bias, stride = 1, padding = 0, dilation = 1, groups = 1 }: ConvolutionOptions<number> = {},
): Tensor => {
  checkOperands("conv1d", x, weight, ["B, C, L", "l"], bias, groups)
  const window = {
    stride: [stride],
    padding: padding === "same" ? padding : [padding],
    dilation: [dilation],
    groups,
  }
  return convolve("conv1d", x, weight, window, bias)
}

const pairOf = (operation: string, name: string, size: number | Pair): Pair => {
  const pair = typeof size === "number" ? ([size, size] as const) : size
  if (pair.length !== 2)
    throw new ShapeError(operation, `${name} is ${JSON.stringify(size)}: it must be a number, or [height, width]`)
  return pair
}

const checkFloats = (operation: string, name: string, { dtype }: Tensor): void => {
  if (computeType(dtype) !== "f32") throw new ShapeError(operation, `${name} is ${dtype}: cast it to f32 first`)
}

const checkOperands = (
  operation: string,
  x: Tensor,
  weight: Tensor,
  [image, window]: readonly [image: string, window: string],
  bias: Tensor | undefined,
  groups: number,
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
  checkFloats(operation, "x", x)
  checkFloats(operation, "the weight", weight)
  if (bias) checkFloats(operation, "the bias", bias)
}

/** Over one axis or two, by the length of the window's lists. */
const convolve = (
  operation: string,
  x: Tensor,
  weight: Tensor,
  { padding, ...rest }: Omit<Window, "size" | "padding"> & { readonly padding: readonly number[] | "same" },
  bias: Tensor | undefined,
): Tensor => {
  const [out, perGroup, ...size] = weight.shape as [number, number, ...number[]]
  const { stride, dilation, groups } = rest
  if (padding === "same") {
    if (stride.some((step) => step !== 1))
      throw new ShapeError(operation, `padding "same" needs a stride of 1, not ${stride.join(" × ")}`)
    const missing = size.map((length, i) => dilation[i]! * (length - 1))
    const odd = x.pad([[0, 0], [0, 0], ...missing.map((count) => [0, count % 2] as const)])
    return convolve(operation, odd, weight, { ...rest, padding: missing.map((count) => count >> 1) }, bias)
  }
  const window: Window = { ...rest, size, padding }
  const places = placesOf(operation, x.shape, window)
  const batch = x.shape[0]!
  const matrix = weight.reshape([groups, out / groups, perGroup * sizeOf(size)])
  const seen = unfold(x, window)
  const product =
    groups === 1
      ? seen.squeeze(0).matmul(matrix.squeeze(0), { transposeB: true })
      : seen.matmul(matrix, { transposeB: true })
  const result = product
    .reshape([groups, batch, ...places, out / groups])
    .transpose([1, 0, -1, ...places.map((_, i) => i + 2)])
    .reshape([batch, out, ...places])
  return bias ? result.add(bias.reshape([out, ...places.map(() => 1)])) : result
}

export interface PoolOptions {
  /** Default: the size of the window, so that windows do not overlap. */
  readonly stride?: number | Pair
  /** On every side, at most half of the window: what is never the largest, or zeros that count in the mean. Default 0. */
  readonly padding?: number | Pair
}

/** Folds what a window sees of each channel, and `fill` around it: [B, C, H, W] to [B, C, rows, columns]. */
const pool = (
  operation: string,
  x: Tensor,
  size: number | Pair,
  { stride = size, padding = 0 }: PoolOptions,
  fill: number,
  fold: (seen: Tensor) => Tensor,
): Tensor => {
  const [batch, channels = 1] = x.shape
  const around = pairOf(operation, "padding", padding)
  const window: Window = {
    size: pairOf(operation, "size", size),
    stride: pairOf(operation, "stride", stride),
    padding: [0, 0],
    dilation: [1, 1],
    groups: channels,
  }
  checkFloats(operation, "x", x)
  if (around.some((width, i) => !Number.isInteger(width) || width < 0 || 2 * width > window.size[i]!))
    throw new ShapeError(operation, `padding is ${around.join(" × ")}: it must be whole, from 0 to half of the window`)
  const image =
    x.shape.length === 4
      ? x.pad(
          [0, 0, ...around].map((width) => [width, width] as const),
          fill,
        )
      : x
  const places = placesOf(operation, image.shape, window)
  return fold(unfold(image, window))
    .reshape([channels, batch!, ...places])
    .transpose([1, 0, 2, 3])
}

/** The largest element that each window sees. */
export const maxPool2d = (x: Tensor, size: number | Pair, options: PoolOptions = {}): Tensor =>
  pool("maxPool2d", x, size, options, Number.NEGATIVE_INFINITY, (seen) => seen.max(-1))

/** The mean of what each window sees. */
export const avgPool2d = (x: Tensor, size: number | Pair, options: PoolOptions = {}): Tensor =>
  pool("avgPool2d", x, size, options, 0, (seen) => seen.mean(-1))
