import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from "./io/half.ts"
import { ShapeError } from "./errors.ts"
import { fromQuantizedWords, isQuantized, quantizedForm, type QuantizedType } from "./quantized.ts"

export { isQuantized, quantizedForm, type QuantizedForm, type QuantizedType } from "./quantized.ts"

/**
 * Element types. Kernels compute in f32, i32 and u32. The others are ways to store them: a `bool` is a u32 that is 0 or
 * 1, `f16` and `bf16` pack two numbers into a word, a {@link QuantizedType} four or eight; those are read as f32.
 */
export type DType = ComputeType | "bool" | PackedType

/** What a kernel computes in once an element is loaded. */
export type ComputeType = "f32" | "i32" | "u32"

/** Element types of half a word. */
export type HalfType = "f16" | "bf16"

/** Element types of less than a word, which are read as f32. */
export type PackedType = HalfType | QuantizedType

/** What the host hands over and gets back: f32 for every floating-point dtype, u32 for `bool`. */
export type HostArray = Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>

/** Arrays of the types that kernels compute in. */
export const arrays = { f32: Float32Array, i32: Int32Array, u32: Uint32Array } as const

export type Shape = readonly number[]

/** Bytes of one element of the dtypes that kernels compute in. */
export const elementBytes = 4

export const isHalf = (dtype: DType): dtype is HalfType => dtype === "f16" || dtype === "bf16"

export const isPacked = (dtype: DType): dtype is PackedType => isHalf(dtype) || isQuantized(dtype)

export const computeType = (dtype: DType): ComputeType =>
  dtype === "i32" ? "i32" : dtype === "u32" || dtype === "bool" ? "u32" : "f32"

/** Bytes of `count` elements; of a quantised type, whole groups. */
export const bytesOf = (dtype: DType, count: number): number => {
  if (!isQuantized(dtype)) return count * (isHalf(dtype) ? 2 : elementBytes)
  const { group, words } = quantizedForm(dtype)
  return Math.ceil(count / group) * words * 4
}

export const sizeOf = (shape: Shape): number => shape.reduce((product, dim) => product * dim, 1)

export const showShape = (shape: Shape): string => `[${shape.join(", ")}]`

export const sameShape = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((dim, i) => dim === b[i])

/** `bytes`, which are elements of `dtype`, as the host sees them: a view, or the numbers that packed ones stand for. */
export const hostArray = (dtype: DType, bytes: ArrayBuffer): HostArray => {
  if (dtype === "f16") return float16ToFloat32(new Uint16Array(bytes))
  if (dtype === "bf16") return bfloat16ToFloat32(new Uint16Array(bytes))
  if (isQuantized(dtype)) return fromQuantizedWords(quantizedForm(dtype), bytes)
  const type = computeType(dtype)
  return new arrays[type](bytes)
}

/** The elements of `data`, which is a host array of `dtype`, as they are stored: whole words. */
export const storedArray = (
  dtype: Exclude<DType, QuantizedType>,
  data: HostArray,
): HostArray | Uint16Array<ArrayBuffer> => {
  if (!isHalf(dtype)) return data
  const values = new Float32Array(data.length + (data.length % 2))
  values.set(data)
  return dtype === "f16" ? float32ToFloat16(values) : float32ToBfloat16(values)
}

/** The dtype that a host array is stored as. */
export const dtypeOf = (data: HostArray): ComputeType =>
  data instanceof Float32Array ? "f32" : data instanceof Int32Array ? "i32" : "u32"

const ranges = { f32: [-Infinity, Infinity], i32: [-(2 ** 31), 2 ** 31 - 1], u32: [0, 2 ** 32 - 1] } as const

/** Refuses a number that `dtype` does not have. */
export const checkNumber = (operation: string, value: number, dtype: ComputeType): void => {
  if (!(dtype in ranges)) throw new ShapeError(operation, `takes f32, i32 or u32, not ${String(dtype)}`)
  const [low, high] = ranges[dtype]
  if (dtype !== "f32" && !(Number.isInteger(value) && value >= low && value <= high))
    throw new ShapeError(operation, `${value} is no number of ${dtype}: it has the whole ones from ${low} to ${high}`)
}

/** Refuses what is no dtype. */
export const checkDType = (operation: string, dtype: DType): void => {
  if (isQuantized(dtype)) quantizedForm(dtype)
  else if (!(dtype in ranges || dtype === "f16" || dtype === "bf16" || dtype === "bool"))
    throw new ShapeError(operation, `there is no dtype ${String(dtype)}`)
}
