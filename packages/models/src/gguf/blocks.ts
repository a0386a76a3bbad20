import { safetensorsToFloat32 } from "@rlpt/tensor"

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
}

/** A type whose block at byte `from` gives the values of `out` from index `to` on. */
const blocks = (
  elements: number,
  bytes: number,
  decodeBlock: (source: Uint8Array, from: number, out: Float32Array, to: number) => void,
): BlockType => ({
  elements,
  bytes,
  decode: (source, out) => {
    const count = source.length / bytes
    for (let block = 0; block < count; block++) decodeBlock(source, block * bytes, out, block * elements)
  },
})

const plain = (dtype: "F32" | "F16" | "BF16", bytes: number): BlockType => ({
  elements: 1,
  bytes,
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

const q4_0 = blocks(32, 18, (source, from, out, to) => {
  const d = half(source, from)
  for (let i = 0; i < HALF_BLOCK; i++) {
    const byte = source[from + 2 + i]!
    out[to + i] = d * ((byte & 15) - 8)
    out[to + i + HALF_BLOCK] = d * ((byte >> 4) - 8)
  }
})

const q4_1 = blocks(32, 20, (source, from, out, to) => {
  const d = half(source, from)
  const m = half(source, from + 2)
  for (let i = 0; i < HALF_BLOCK; i++) {
    const byte = source[from + 4 + i]!
    out[to + i] = Math.fround(d * (byte & 15)) + m
    out[to + i + HALF_BLOCK] = Math.fround(d * (byte >> 4)) + m
  }
})

/** Bit `i` of the 32 bits at `at`, as bit 4. */
const fifthBit = (source: Uint8Array, at: number, i: number): number => ((source[at + (i >> 3)]! >> (i & 7)) & 1) << 4

const q5_0 = blocks(32, 22, (source, from, out, to) => {
  const d = half(source, from)
  for (let i = 0; i < HALF_BLOCK; i++) {
    const byte = source[from + 6 + i]!
    out[to + i] = d * (((byte & 15) | fifthBit(source, from + 2, i)) - 16)
    out[to + i + HALF_BLOCK] = d * (((byte >> 4) | fifthBit(source, from + 2, i + HALF_BLOCK)) - 16)
  }
})

const q5_1 = blocks(32, 24, (source, from, out, to) => {
  const d = half(source, from)
  const m = half(source, from + 2)
  for (let i = 0; i < HALF_BLOCK; i++) {
    const byte = source[from + 8 + i]!
    out[to + i] = Math.fround(d * ((byte & 15) | fifthBit(source, from + 4, i))) + m
    out[to + i + HALF_BLOCK] = Math.fround(d * ((byte >> 4) | fifthBit(source, from + 4, i + HALF_BLOCK))) + m
  }
})

const q8_0 = blocks(32, 34, (source, from, out, to) => {
  const d = half(source, from)
  for (let i = 0; i < 32; i++) out[to + i] = d * signed(source[from + 2 + i]!)
})

const signed = (byte: number): number => (byte << 24) >> 24

/** The 6-bit scale and minimum of group `j` of 8, packed into 12 bytes at `at` (`get_scale_min_k4` of ggml). */
const groupScale = (source: Uint8Array, at: number, j: number): number =>
  j < 4 ? source[at + j]! & 63 : (source[at + j + 4]! & 15) | ((source[at + j - 4]! >> 6) << 4)
const groupMinimum = (source: Uint8Array, at: number, j: number): number =>
  j < 4 ? source[at + j + 4]! & 63 : (source[at + j + 4]! >> 4) | ((source[at + j]! >> 6) << 4)

/** Q4_K and Q5_K: 8 groups of 32, each with a scale and a minimum; two groups share the bytes of one run of 32. */
const fourOrFiveBits = (bytes: number, hasFifthBit: boolean): BlockType => {
  const lowBits = hasFifthBit ? 48 : 16
  return blocks(256, bytes, (source, from, out, to) => {
    const d = half(source, from)
    const minimum = half(source, from + 2)
    for (let group = 0; group < 8; group++) {
      const scale = Math.fround(d * groupScale(source, from + 4, group))
      const offset = Math.fround(minimum * groupMinimum(source, from + 4, group))
      const shift = (group & 1) * 4
      const low = from + lowBits + (group >> 1) * 32
      for (let i = 0; i < 32; i++) {
        const high = hasFifthBit ? ((source[from + 16 + i]! >> group) & 1) << 4 : 0
        const q = ((source[low + i]! >> shift) & 15) | high
        out[to + group * 32 + i] = Math.fround(scale * q) - offset
      }
    }
  })
}

/** Q6_K: low 4 bits of 128 elements in 64 bytes, their high 2 bits in 32 bytes, and a signed scale for every 16. */
const q6_K = blocks(256, 210, (source, from, out, to) => {
  const d = half(source, from + 208)
  for (let group = 0; group < 8; group++) {
    const part = group >> 2
    const run = group & 3
    const low = from + part * 64 + (run & 1) * 32
    const high = from + 128 + part * 32
    for (let i = 0; i < 32; i++) {
      const scale = Math.fround(d * signed(source[from + 192 + group * 2 + (i >> 4)]!))
      const q = ((source[low + i]! >> ((run >> 1) * 4)) & 15) | (((source[high + i]! >> (run * 2)) & 3) << 4)
      out[to + group * 32 + i] = scale * (q - 32)
    }
  }
})

/**
 * Sizes and dequantisation of each type, in float32 with the roundings of ggml's `dequantize_row_*` (ggml-quants.c).
 * A product of two float32 is exact in a double, so that storing it, or `Math.fround`, rounds once.
 */
export const blockTypes: Readonly<Record<GgmlType, BlockType>> = {
  F32: plain("F32", 4),
  F16: plain("F16", 2),
  BF16: plain("BF16", 2),
  Q8_0: q8_0,
  Q4_0: q4_0,
  Q4_1: q4_1,
  Q5_0: q5_0,
  Q5_1: q5_1,
  Q4_K: fourOrFiveBits(144, false),
  Q5_K: fourOrFiveBits(176, true),
  Q6_K: q6_K,
}
