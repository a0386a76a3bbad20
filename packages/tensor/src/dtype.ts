import { TensorError } from "./errors.ts"
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from "./io/half.ts"

/**
 * Element types. Kernels compute in f32, i32 and u32. The others are ways to store them: a `bool` is a u32 that is 0 or
 * 1, `f16` and `bf16` pack two numbers into a word, a {@link QuantizedType} four or eight; those are read as f32.
 */
export type DType = ComputeType | "bool" | PackedType

/** What a kernel computes in once an element is loaded. */
export type ComputeType = "f32" | "i32" | "u32"

/** Element types of half a word. */
export type HalfType = "f16" | "bf16"

/**
 * Weights of 8 or 4 bits. The number is that of consecutive elements, a multiple of 8, that share a scale and maybe an
 * offset: an element is scale · q (+ offset), the sum rounded once. With an offset, 4 bits count from 0.
 */
export type QuantizedType = `int8:${number}` | `int4:${number}` | `int8:${number}:offset` | `uint4:${number}:offset`

/** Element types of less than a word, which are read as f32. */
export type PackedType = HalfType | QuantizedType

/** What the host hands over and gets back: f32 for every floating-point dtype, u32 for `bool`. */
export type HostArray = Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>

export type Shape = readonly number[]

/** Bytes of one element of the dtypes that kernels compute in. */
export const elementBytes = 4

export const isHalf = (dtype: DType): dtype is HalfType => dtype === "f16" || dtype === "bf16"

export const isQuantized = (dtype: DType): dtype is QuantizedType => dtype.includes(":")

export const isPacked = (dtype: DType): dtype is PackedType => isHalf(dtype) || isQuantized(dtype)

export const computeType = (dtype: DType): ComputeType =>
  dtype === "i32" ? "i32" : dtype === "u32" || dtype === "bool" ? "u32" : "f32"

/**
 * How a quantised type lies in memory: in blocks of 32-bit words, which are the bits of the scale as f32, those of the
 * offset if there is one, and `group` whole numbers, the first in the lowest bits.
 */
export interface QuantizedForm {
  readonly bits: 8 | 4
  /** The smallest whole number: −128, −8 or 0. */
  readonly lowest: number
  readonly group: number
  readonly hasOffset: boolean
  /** Words of one block, and those before its whole numbers. */
  readonly words: number
  readonly headWords: 1 | 2
}

const forms = new Map<QuantizedType, QuantizedForm>()

/** @throws TensorError if there is no such type */
export const quantizedForm = (dtype: QuantizedType): QuantizedForm => {
  const known = forms.get(dtype)
  if (known) return known
  const [, sign, digit, size, offset] = /^(u?)int([84]):(\d+)(:offset)?$/.exec(dtype) ?? []
  const [bits, group] = [digit === "8" ? 8 : 4, Number(size)] as const
  const hasOffset = offset !== undefined
  if (digit === undefined || group % 8 !== 0 || group === 0 || (sign === "u") !== (bits === 4 && hasOffset))
    throw new TensorError(
      "dtype",
      `there is no "${dtype}"; int8:32, int4:32, int8:32:offset and uint4:32:offset are, or with another multiple of 8`,
    )
  const headWords = hasOffset ? 2 : 1
  const lowest = sign === "u" ? 0 : -(2 ** (bits - 1))
  const form = { bits, lowest, group, hasOffset, headWords, words: headWords + (group * bits) / 32 } as const
  forms.set(dtype, form)
  return form
}

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
  if (isQuantized(dtype)) return dequantizedArray(quantizedForm(dtype), bytes)
  const type = computeType(dtype)
  return type === "f32" ? new Float32Array(bytes) : type === "i32" ? new Int32Array(bytes) : new Uint32Array(bytes)
}

const dequantizedArray = ({ bits, lowest, group, ...form }: QuantizedForm, bytes: ArrayBuffer) => {
  const words = new Int32Array(bytes)
  const heads = new Float32Array(bytes)
  const values = new Float32Array((words.length / form.words) * group)
  const perWord = 32 / bits
  for (let i = 0; i < values.length; i++) {
    const block = Math.floor(i / group) * form.words
    const word = words[block + form.headWords + Math.floor((i % group) / perWord)]!
    const above = 32 - bits - (i % perWord) * bits
    const q = lowest < 0 ? (word << above) >> (32 - bits) : (word << above) >>> (32 - bits)
    // The product of a scale and a whole number of few bits is exact in a double.
    const product = heads[block]! * q
    values[i] = form.hasOffset ? product + heads[block + 1]! : product
  }
  return values
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
