import { showShape, sizeOf, type Shape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFused, applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"

/** Weights of 8 or 4 bits: elements of a row in groups, each with a scale of its own. */
export interface Quantized {
  readonly bits: 8 | 4
  /** Elements that share a scale. */
  readonly group: number
  /** Of the weights. */
  readonly shape: Shape
  /** Signed numbers of `bits` bits in words of 32, the first lowest: u32 [elements · bits / 32]. */
  readonly words: Tensor
  /** f32 [elements / group]. */
  readonly scales: Tensor
}

export interface QuantizeOptions {
  readonly bits: 8 | 4
  /** Elements that share a scale, a multiple of 8 that divides the last axis. Default 32. */
  readonly group?: number
}

interface Attributes {
  readonly bits: 8 | 4
  readonly group: number
  readonly shape: Shape
}

/** One invocation per group: its scale, then its words. */
const quantizeKernel = (bits: 8 | 4): Kernel => ({
  name: `quantize to ${bits} bits`,
  params: { groups: "u32", group: "u32" },
  buffers: [reads("x"), writes("words", "u32"), writes("scales")],
  body: () => `${perItem(64, "p.groups")}
  let at = i * p.group;
  var largest = 0.0;
  for (var k = 0u; k < p.group; k++) { largest = max(largest, abs(x[at + k])); }
  let scale = largest / ${2 ** (bits - 1) - 1}.0;
  scales[i] = scale;
  let inverse = select(0.0, 1.0 / scale, largest > 0.0);
  for (var w = 0u; w < p.group / ${32 / bits}u; w++) {
    var word = 0u;
    for (var k = 0u; k < ${32 / bits}u; k++) {
      let q = i32(round(x[at + w * ${32 / bits}u + k] * inverse));
      word |= (bitcast<u32>(q) & ${2 ** bits - 1}u) << (k * ${bits}u);
    }
    words[i * p.group / ${32 / bits}u + w] = word;
  }
}`,
})

const dequantizeKernel = (bits: 8 | 4): Kernel => ({
  name: `dequantize ${bits} bits`,
  params: { words: "u32", group: "u32" },
  buffers: [reads("words", "u32"), reads("scales"), writes("out")],
  body: () => `${perItem(64, "p.words")}
  let word = bitcast<i32>(words[i]);
  let scale = scales[i * ${32 / bits}u / p.group];
  for (var k = 0u; k < ${32 / bits}u; k++) {
    out[i * ${32 / bits}u + k] = f32(extractBits(word, k * ${bits}u, ${bits}u)) * scale;
  }
}`,
})

const quantizeOp: FusedOp<Attributes> = {
  name: "quantize",
  infer: (_, { bits, group, shape }) => [
    { shape: [(sizeOf(shape) * bits) / 32], dtype: "u32" },
    { shape: [sizeOf(shape) / group], dtype: "f32" },
  ],
  lower: (emit, [x], [words, scales], { bits, group, shape }) => {
    const groups = sizeOf(shape) / group
    emit.launch(quantizeKernel(bits), [x!, words!, scales!], [groups, group], gridFor(groups, 64))
  },
}

const dequantizeOp: FusedOp<Attributes> = {
  name: "dequantize",
  infer: (_, { shape }) => [{ shape, dtype: "f32" }],
  lower: (emit, [words, scales], [out], { bits, group }) => {
    const count = sizeOf(words!.spec.shape)
    emit.launch(dequantizeKernel(bits), [words!, scales!, out!], [count, group], gridFor(count, 64))
  },
  // Quantised weights are frozen.
  backward: () => [],
}

/** `x` in few bits: each group's largest element is ±127 (or ±7) of its scale, the others are rounded to nearest. */
export const quantize = (x: Tensor, { bits, group = 32 }: QuantizeOptions): Quantized => {
  const width = x.shape.at(-1) ?? 0
  if (group % 8 !== 0 || group <= 0 || width % group !== 0)
    throw new ShapeError(
      "quantize",
      `groups of ${group} (a multiple of 8) do not divide the rows of ${showShape(x.shape)}`,
    )
  if (x.dtype !== "f32") throw new ShapeError("quantize", `needs f32, got ${x.dtype}`)
  const [words, scales] = applyFused(quantizeOp, [x], { bits, group, shape: x.shape })
  return { bits, group, shape: x.shape, words: words!, scales: scales! }
}

/** The weights that `quantized` stands for, as f32. No gradient passes. */
export const dequantize = ({ bits, group, shape, words, scales }: Quantized): Tensor =>
  applyFusedOne(dequantizeOp, [words, scales], { bits, group, shape })
