import { sameShape, showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFused } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"
import type { HeadShape } from "./rope.ts"

export interface QkNormOptions extends HeadShape {
  readonly eps: number
  /** Added to the weights; see `rmsNorm`. Default 0. */
  readonly offset?: number
}

type Attributes = Required<QkNormOptions>

const params = { rows: "u32", heads: "u32", kvHeads: "u32", headDim: "u32", eps: "f32", offset: "f32" } as const

/** One invocation per head of q ++ k ++ v. Queries come first, then keys; values have no norm. */
const headOf = `
  let perRow = p.heads + 2u * p.kvHeads;
  let head = i % perRow;
  let isQuery = head < p.heads;
  let at = i * p.headDim;`

const weightAt = "(select(kWeight[k], qWeight[k], isQuery) + p.offset)"

const forward: Kernel = {
  name: "qkNorm",
  params,
  buffers: [reads("x"), reads("qWeight"), reads("kWeight"), writes("out"), writes("inverse")],
  body: () => `${perItem(64, "p.rows * (p.heads + 2u * p.kvHeads)")}
  ${headOf}
  if (head >= p.heads + p.kvHeads) {
    for (var k = 0u; k < p.headDim; k++) { out[at + k] = x[at + k]; }
    inverse[i] = 0.0;
    return;
  }
  var squares = 0.0;
  for (var block = 0u; block < p.headDim; block += 64u) {
    var part = 0.0;
    for (var k = block; k < min(block + 64u, p.headDim); k++) { part = fma(x[at + k], x[at + k], part); }
    squares += part;
  }
  let scale = inverseSqrt(squares / f32(p.headDim) + p.eps);
  for (var k = 0u; k < p.headDim; k++) { out[at + k] = x[at + k] * scale * ${weightAt}; }
  inverse[i] = scale;
}`,
}

const backward: Kernel = {
  name: "qkNorm gradient",
  params,
  buffers: [reads("x"), reads("qWeight"), reads("kWeight"), reads("inverse"), reads("grad"), writes("out")],
  body: () => `${perItem(64, "p.rows * (p.heads + 2u * p.kvHeads)")}
  ${headOf}
  if (head >= p.heads + p.kvHeads) {
    for (var k = 0u; k < p.headDim; k++) { out[at + k] = grad[at + k]; }
    return;
  }
  let scale = inverse[i];
  var dot = 0.0;
  for (var k = 0u; k < p.headDim; k++) { dot = fma(grad[at + k] * ${weightAt}, x[at + k], dot); }
  let pull = dot * scale * scale * scale / f32(p.headDim);
  for (var k = 0u; k < p.headDim; k++) { out[at + k] = grad[at + k] * ${weightAt} * scale - x[at + k] * pull; }
}`,
}

/** Rows whose contributions to the gradient of a weight are added up by one invocation. */
const blockRows = 64

const weightParts: Kernel = {
  name: "qkNorm weight gradient: blocks of rows",
  params,
  buffers: [reads("x"), reads("inverse"), reads("grad"), writes("parts")],
  body: () => `${perItem(64, `((p.rows + ${blockRows - 1}u) / ${blockRows}u) * 2u * p.headDim`)}
  let perRow = p.heads + 2u * p.kvHeads;
  let k = i % p.headDim;
  let ofKeys = (i / p.headDim) % 2u == 1u;
  let first = i / (2u * p.headDim) * ${blockRows}u;
  let begin = select(0u, p.heads, ofKeys);
  let end = select(p.heads, p.heads + p.kvHeads, ofKeys);
  var sum = 0.0;
  for (var row = first; row < min(first + ${blockRows}u, p.rows); row++) {
    for (var head = begin; head < end; head++) {
      let at = row * perRow + head;
      sum = fma(grad[at * p.headDim + k] * inverse[at], x[at * p.headDim + k], sum);
    }
  }
  parts[i] = sum;
}`,
}

const weightSum: Kernel = {
  name: "qkNorm weight gradient: sum of blocks",
  params,
  buffers: [reads("parts"), writes("dq"), writes("dk")],
  body: () => `${perItem(64, "2u * p.headDim")}
  var sum = 0.0;
  for (var first = 0u; first < p.rows; first += ${blockRows}u) { sum += parts[first / ${blockRows}u * 2u * p.headDim + i]; }
  if (i < p.headDim) { dq[i] = sum; } else { dk[i - p.headDim] = sum; }
}`,
}

const paramsOf = (rows: number, { heads, kvHeads, headDim, eps, offset }: Attributes) => [
  rows,
  heads,
  kvHeads,
  headDim,
  eps,
  offset,
]

const normOp: FusedOp<Attributes> = {
  name: "qkNorm",
  floats: [0, 1, 2],
  infer: ([x, qWeight, kWeight], { heads, kvHeads, headDim }) => {
    const perRow = heads + 2 * kvHeads
    const fits =
      x!.shape.length === 2 &&
      x!.shape[1] === perRow * headDim &&
      sameShape(qWeight!.shape, [headDim]) &&
      sameShape(kWeight!.shape, [headDim])
    if (!fits)
      throw new ShapeError(
        "qkNorm",
        `qkv ${showShape(x!.shape)} must be [N, ${perRow * headDim}] and the weights ${showShape(qWeight!.shape)} and ${showShape(kWeight!.shape)} [${headDim}]`,
      )
    return [
      { shape: x!.shape, dtype: "f32" },
      { shape: [x!.shape[0]!, perRow], dtype: "f32" },
    ]
  },
  lower: (emit, inputs, outputs, attributes) => {
    const [rows, perRow] = outputs[1]!.spec.shape as [number, number]
    emit.launch(forward, [...inputs, ...outputs], paramsOf(rows, attributes), gridFor(rows * perRow, 64))
  },
  backward: ({ inputs, outputs: [, inverse], grads: [g], attributes }) =>
    applyFused(gradientOp, [...inputs, inverse!, g!], attributes),
}

const gradientOp: FusedOp<Attributes> = {
  name: "qkNorm gradient",
  infer: ([x, qWeight, kWeight]) => [x!, qWeight!, kWeight!],
  lower: (emit, inputs, [dx, dq, dk], attributes) => {
    const [x, , , inverse, grad] = inputs
    const [rows, perRow] = inverse!.spec.shape as [number, number]
    const params = paramsOf(rows, attributes)
    const blocks = Math.ceil(rows / blockRows)
    const width = 2 * attributes.headDim
    const parts = emit.scratch({ shape: [blocks, width], dtype: "f32" })
    emit.launch(backward, [...inputs, dx!], params, gridFor(rows * perRow, 64))
    emit.launch(weightParts, [x!, inverse!, grad!, parts], params, gridFor(blocks * width, 64))
    emit.launch(weightSum, [parts, dq!, dk!], params, gridFor(width, 64))
  },
}

/**
 * RMS norm of every query head and every key head (Qwen 3, Gemma 3; after A. Henry et al., "Query-Key Normalization
 * for Transformers", 2020). qkv: [N, (heads + 2·kvHeads)·headDim], queries, keys, then values, which pass through;
 * qWeight and kWeight: [headDim]. Result: as qkv. Squares are summed in blocks of 64, in order.
 */
export const qkNorm = (
  qkv: Tensor,
  qWeight: Tensor,
  kWeight: Tensor,
  { offset = 0, ...options }: QkNormOptions,
): Tensor => applyFused(normOp, [qkv, qWeight, kWeight], { ...options, offset })[0]!
