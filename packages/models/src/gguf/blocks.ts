import { safetensorsToFloat32, type DType, type QuantizedNumbers, type QuantizedType } from "@rlpt/tensor"

/** Element types of a GGUF tensor that can be read, by ggml's names. */
export type GgmlType = "F32" | "F16" | "BF16" | "Q8_0" | "Q4_0" | "Q4_1" | "Q5_0" | "Q5_1" | "Q4_K" | "Q5_K" | "Q6_K"

/** How a type stores its elements: in blocks of equal size. */
export interface BlockType {
  /** Elements of one block. */
  readonly elements: number
  /** Bytes of one block. */
  readonly bytes: number
  /** Writes the values of all blocks in `source`, as float32, to `out` from its start. */
  readonly decode: (source: Uint8Array, out: Float32Array) => void
  /** What the tensor library can keep them as without loss. */
  readonly dtype: DType
  /** The whole numbers, scales and offsets of all blocks in `source`, if the type is made of them. */
  readonly numbers?: (source: Uint8Array) => QuantizedNumbers
}

/** Whole numbers of a block and what they are multiplied by and added to, group by group. */
interface Block {
  readonly numbers: Int8Array
  readonly scales: Float32Array
  readonly offsets: Float32Array
}

/**
 * A type that can be kept as `dtype`. `read` fills a block's part of the arrays from byte `from` on: `numbers` from index
 * `to`, `scales` and `offsets` from `group`.
 *
 * Values have the roundings of ggml's `dequantize_row_*` (ggml-quants.c): scales and numbers have so few digits that their
 * product is exact, so that the sum with the offset is rounded once.
 */
const blocks = (
  elements: number,
  bytes: number,
  dtype: QuantizedType,
  read: (source: Uint8Array, from: number, block: Block, to: number, group: number) => void,
): BlockType => {
  const [, size, offset] = dtype.split(":")
  const groupSize = Number(size)
  const numbers = (source: Uint8Array): Block => {
    const count = source.length / bytes
    const groups = (count * elements) / groupSize
    const block = {
      numbers: new Int8Array(count * elements),
      scales: new Float32Array(groups),
      offsets: new Float32Array(offset ? groups : 0),
    }
    for (let i = 0; i < count; i++) read(source, i * bytes, block, i * elements, (i * elements) / groupSize)
    return block
  }
  return {
    elements,
    bytes,
    dtype,
    decode: (source, out) => {
      const { numbers: whole, scales, offsets } = numbers(source)
      for (let i = 0; i < whole.length; i++) {
        const group = Math.floor(i / groupSize)
        const product = scales[group]! * whole[i]!
        out[i] = offset ? product + offsets[group]! : product
      }
    },
    numbers: (source) => {
      const { offsets, ...block } = numbers(source)
      return offset ? { ...block, offsets } : block
    },
  }
}

const plain = (dtype: "F32" | "F16" | "BF16", kept: DType, bytes: number): BlockType => ({
  elements: 1,
  bytes,
  dtype: kept,
  decode: (data, out) => out.set(safetensorsToFloat32({ dtype, data })),
})

/** Every binary16 number by its bits: scales are looked up. */
const halves = (() => {
  let table: Float32Array | undefined
  return () => {
    if (table === undefined) {
      const bits = Uint16Array.from({ length: 65536 }, (_, i) => i)
      table = safetensorsToFloat32({ dtype: "F16", data: new Uint8Array(bits.buffer) })
    }
    return table
  }
})()

const half = (source: Uint8Array, at: number): number => halves()[source[at]! | (source[at + 1]! << 8)]!

/** The two 4-bit halves of 16 bytes hold elements 0 … 15 and 16 … 31. */
const HALF_BLOCK = 16

const q4_0 = blocks(32, 18, "int4:32", (source, from, { numbers, scales }, to, group) => {
  scales[group] = half(source, from)
  for (let i = 0; i < HALF_BLOCK; i++) {
    const byte = source[from + 2 + i]!
    numbers[to + i] = (byte & 15) - 8
    numbers[to + i + HALF_BLOCK] = (byte >> 4) - 8
  }
})

const q4_1 = blocks(32, 20, "uint4:32:offset", (source, from, { numbers, scales, offsets }, to, group) => {
  scales[group] = half(source, from)
  offsets[group] = half(source, from + 2)
  for (let i = 0; i < HALF_BLOCK; i++) {
    const byte = source[from + 4 + i]!
    numbers[to + i] = byte & 15
    numbers[to + i + HALF_BLOCK] = byte >> 4
  }
})

/** Bit `i` of the 32 bits at `at`, as bit 4. */
const fifthBit = (source: Uint8Array, at: number, i: number): number => ((source[at + (i >> 3)]! >> (i & 7)) & 1) << 4

const q5_0 = blocks(32, 22, "int8:32", (source, from, { numbers, scales }, to, group) => {
  scales[group] = half(source, from)
  for (let i = 0; i < HALF_BLOCK; i++) {
    const byte = source[from + 6 + i]!
    numbers[to + i] = ((byte & 15) | fifthBit(source, from + 2, i)) - 16
    numbers[to + i + HALF_BLOCK] = ((byte >> 4) | fifthBit(source, from + 2, i + HALF_BLOCK)) - 16
  }
})

const q5_1 = blocks(32, 24, "int8:32:offset", (source, from, { numbers, scales, offsets }, to, group) => {
  scales[group] = half(source, from)
  offsets[group] = half(source, from + 2)
  for (let i = 0; i < HALF_BLOCK; i++) {
    const byte = source[from + 8 + i]!
    numbers[to + i] = (byte & 15) | fifthBit(source, from + 4, i)
    numbers[to + i + HALF_BLOCK] = (byte >> 4) | fifthBit(source, from + 4, i + HALF_BLOCK)
  }
})

const q8_0 = blocks(32, 34, "int8:32", (source, from, { numbers, scales }, to, group) => {
  scales[group] = half(source, from)
  for (let i = 0; i < 32; i++) numbers[to + i] = source[from + 2 + i]!
})

const signed = (byte: number): number => (byte << 24) >> 24

/** The 6-bit scale and minimum of group `j` of 8, packed into 12 bytes at `at` (`get_scale_min_k4` of ggml). */
const groupScale = (source: Uint8Array, at: number, j: number): number =>
  j < 4 ? source[at + j]! & 63 : (source[at + j + 4]! & 15) | ((source[at + j - 4]! >> 6) << 4)
const groupMinimum = (source: Uint8Array, at: number, j: number): number =>
  j < 4 ? source[at + j + 4]! & 63 : (source[at + j + 4]! >> 4) | ((source[at + j]! >> 6) << 4)

/** Q4_K and Q5_K: 8 groups of 32, each with a scale and a minimum; two groups share the bytes of one run of 32. */
const fourOrFiveBits = (bytes: number, dtype: QuantizedType, hasFifthBit: boolean): BlockType => {
  const lowBits = hasFifthBit ? 48 : 16
  return blocks(256, bytes, dtype, (source, from, { numbers, scales, offsets }, to, first) => {
    const d = half(source, from)
    const minimum = half(source, from + 2)
    for (let group = 0; group < 8; group++) {
      scales[first + group] = d * groupScale(source, from + 4, group)
      offsets[first + group] = -minimum * groupMinimum(source, from + 4, group)
      const shift = (group & 1) * 4
      const low = from + lowBits + (group >> 1) * 32
      for (let i = 0; i < 32; i++) {
        const high = hasFifthBit ? ((source[from + 16 + i]! >> group) & 1) << 4 : 0
        numbers[to + group * 32 + i] = ((source[low + i]! >> shift) & 15) | high
      }
    }
  })
}

/** Q6_K: low 4 bits of 128 elements in 64 bytes, their high 2 bits in 32 bytes, and a signed scale for every 16. */
const q6_K = blocks(256, 210, "int8:16", (source, from, { numbers, scales }, to, first) => {
  const d = half(source, from + 208)
  for (let group = 0; group < 16; group++) scales[first + group] = d * signed(source[from + 192 + group]!)
  for (let group = 0; group < 8; group++) {
    const part = group >> 2
    const run = group & 3
    const low = from + part * 64 + (run & 1) * 32
    const high = from + 128 + part * 32
    for (let i = 0; i < 32; i++) {
      const q = ((source[low + i]! >> ((run >> 1) * 4)) & 15) | (((source[high + i]! >> (run * 2)) & 3) << 4)
      numbers[to + group * 32 + i] = q - 32
    }
  }
})

/** Sizes of each type, the float32 values that its blocks stand for, and what they are kept as. */
export const blockTypes: Readonly<Record<GgmlType, BlockType>> = {
  F32: plain("F32", "f32", 4),
  F16: plain("F16", "f16", 2),
  BF16: plain("BF16", "bf16", 2),
  Q8_0: q8_0,
  Q4_0: q4_0,
  Q4_1: q4_1,
  Q5_0: q5_0,
  Q5_1: q5_1,
  Q4_K: fourOrFiveBits(144, "uint4:32:offset", false),
  Q5_K: fourOrFiveBits(176, "int8:32:offset", true),
  Q6_K: q6_K,
}
