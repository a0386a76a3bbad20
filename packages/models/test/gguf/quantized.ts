import { blockTypes } from "../../src/gguf/blocks.ts"
import type { Tensor } from "./write.ts"

/** `enum ggml_type` */
const ids = { F32: 0, Q4_0: 2, Q4_1: 3, Q5_0: 6, Q5_1: 7, Q8_0: 8, Q4_K: 12, Q5_K: 13, Q6_K: 14 } as const
export type Stored = keyof typeof ids

/** Where blocks have numbers of 16 bits: scales, and minima. */
const halvesAt: Readonly<Record<Exclude<Stored, "F32">, readonly number[]>> = {
  Q4_0: [0],
  Q4_1: [0, 2],
  Q5_0: [0],
  Q5_1: [0, 2],
  Q8_0: [0],
  Q4_K: [0, 2],
  Q5_K: [0, 2],
  Q6_K: [208],
}

/** Blocks of random bits, but for scales of about a thousandth. */
const blocksOf = (type: Exclude<Stored, "F32">, elements: number): Uint8Array => {
  const { elements: size, bytes } = blockTypes[type]
  const data = new Uint8Array((elements / size) * bytes)
  let state = elements
  const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 8
  data.forEach((_, i) => (data[i] = next()))
  for (let block = 0; block < data.length; block += bytes)
    for (const at of halvesAt[type]) data.set([next(), 0x12 | (next() & 0x81)], block + at)
  return data
}

/** A tensor of random blocks, or of F32 numbers that are all a tenth. */
export const quantizedTensor = (name: string, shape: readonly number[], type: Stored): Tensor => {
  const elements = shape.reduce((a, b) => a * b, 1)
  const data = type === "F32" ? new Uint8Array(new Float32Array(elements).fill(0.1).buffer) : blocksOf(type, elements)
  return { name: `${name}.weight`, shape, type: ids[type], data }
}
