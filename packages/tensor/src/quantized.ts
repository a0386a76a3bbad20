import { ShapeError, TensorError } from "./errors.ts"

/**
 * Weights of 8 or 4 bits. The number is that of consecutive elements, a multiple of 8, that share a scale and maybe an
 * offset: an element is scale · q (+ offset), the sum rounded once. With an offset, 4 bits count from 0.
 */
export type QuantizedType = `int8:${number}` | `int4:${number}` | `int8:${number}:offset` | `uint4:${number}:offset`

/** Whether `dtype` is a {@link QuantizedType}. */
export const isQuantized = (dtype: string): dtype is QuantizedType => dtype.includes(":")

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

/** Whole numbers of few bits in order, and for each group of them a scale, and an offset if they have one. */
export interface QuantizedNumbers {
  readonly numbers: Int8Array
  readonly scales: Float32Array
  readonly offsets?: Float32Array | undefined
}

/**
 * The words that `gpu.quantized` takes for numbers of `dtype`. Groups of the type may be parts of those of `numbers`; where
 * the type has an offset and the numbers none, it is −0, which changes nothing.
 *
 * @throws ShapeError if the groups do not fit
 */
export const quantizedWords = (
  dtype: QuantizedType,
  { numbers, scales, offsets }: QuantizedNumbers,
): Uint32Array<ArrayBuffer> => {
  const { bits, group, hasOffset, words: blockWords, headWords } = quantizedForm(dtype)
  const given = numbers.length / scales.length
  if (given % group !== 0 || (offsets && (!hasOffset || offsets.length !== scales.length)))
    throw new ShapeError(
      "quantizedWords",
      `${numbers.length} numbers with ${scales.length} scales and ${offsets?.length ?? 0} offsets are no ${dtype}`,
    )
  const words = new Uint32Array((numbers.length / group) * blockWords)
  const heads = new Float32Array(words.buffer)
  const mask = 2 ** bits - 1
  const perWord = 32 / bits
  let at = 0
  for (let start = 0; start < numbers.length; start += group) {
    const source = Math.floor(start / given)
    heads[at] = scales[source]!
    if (hasOffset) heads[at + 1] = offsets ? offsets[source]! : -0
    at += headWords
    for (let i = start; i < start + group; i += perWord) {
      let word = 0
      for (let j = 0; j < perWord; j++) word |= (numbers[i + j]! & mask) << (j * bits)
      words[at++] = word
    }
  }
  return words
}

/** The f32 values that the words of {@link quantizedWords} stand for. */
export const fromQuantizedWords = (
  { bits, lowest, group, hasOffset, words: blockWords, headWords }: QuantizedForm,
  bytes: ArrayBuffer,
): Float32Array<ArrayBuffer> => {
  const words = new Int32Array(bytes)
  const heads = new Float32Array(bytes)
  const values = new Float32Array((words.length / blockWords) * group)
  const perWord = 32 / bits
  for (let i = 0; i < values.length; i++) {
    const block = Math.floor(i / group) * blockWords
    const word = words[block + headWords + Math.floor((i % group) / perWord)]!
    const above = 32 - bits - (i % perWord) * bits
    const q = lowest < 0 ? (word << above) >> (32 - bits) : (word << above) >>> (32 - bits)
    // The product of a scale and a whole number of few bits is exact in a double.
    const product = heads[block]! * q
    values[i] = hasOffset ? product + heads[block + 1]! : product
  }
  return values
}
