import type { Gpu } from "../device/gpu.ts"
import { checkNumber, type Shape } from "../dtype.ts"
import type { Tensor } from "../graph/tensor.ts"
import { ShapeError } from "../errors.ts"
import { draw, keysFrom } from "../kernels/random.ts"
import { checkShape } from "../ops/axes.ts"
import { checkSeed } from "./host.ts"

/**
 * Random numbers on the GPU, without state: they are a function of a key (u32 [2]) and the element's position, the same
 * ones that the host makes of the same counters (`pcg4d`). Use a key once; {@link split} and {@link fold} make more.
 */

/** The key of a seed (a whole number below 2⁵³). */
export const key = (gpu: Gpu, seed: number): Tensor => {
  checkSeed("random.key", seed)
  return gpu.tensor(new Uint32Array([seed >>> 0, Math.floor(seed / 2 ** 32)]), [2], "random")
}

/** `count` keys that have nothing to do with each other or with `from`. */
export const split = (from: Tensor, count = 2): readonly Tensor[] => {
  checkShape("random.split", [count])
  const keys = keysFrom(from, from.gpu.arange(count, { dtype: "u32" }), "keys")
  return Array.from({ length: count }, (_, i) => keys.slice(i))
}

/** The key of `from` for `data`: a number of u32, or a tensor of one, such as the number of a step. None of {@link split}'s. */
export const fold = (from: Tensor, data: number | Tensor): Tensor => {
  if (typeof data === "number") checkNumber("random.fold", data, "u32")
  const word = typeof data === "number" ? from.gpu.tensor(new Uint32Array([data])) : data.reshape([1])
  return keysFrom(from, word, "folds").reshape([2])
}

/** Random words, u32. */
export const bits = (from: Tensor, shape: Shape): Tensor => draw(from, "bits", shape)

/** Uniform deviates in (low, high). */
export const uniform = (
  from: Tensor,
  shape: Shape,
  { low = 0, high = 1 }: { readonly low?: number; readonly high?: number } = {},
): Tensor => draw(from, "uniform", shape, low, high)

/** Normal deviates. */
export const normal = (
  from: Tensor,
  shape: Shape,
  { mean = 0, std = 1 }: { readonly mean?: number; readonly std?: number } = {},
): Tensor => draw(from, "normal", shape, mean, std)

/** Whole numbers from `low` to `high` − 1, i32: at most −2³¹ … 2³¹ − 1. */
export const integers = (from: Tensor, shape: Shape, low: number, high: number): Tensor => {
  if (!Number.isInteger(low) || !Number.isInteger(high) || !(low < high))
    throw new ShapeError("random.integers", `there is no whole number from ${low} to below ${high}`)
  for (const end of [low, high - 1]) checkNumber("random.integers", end, "i32")
  return draw(from, "integers", shape, low, high)
}

/** 1 with probability `p` (a number, or a tensor that broadcasts to `shape`), else 0, f32. */
export const bernoulli = (from: Tensor, shape: Shape, p: number | Tensor): Tensor => uniform(from, shape).less(p)

/** The numbers 0 … count − 1 in random order, i32. */
export const permutation = (from: Tensor, count: number): Tensor => bits(from, [count]).argSort()
