import { computeType, sameShape, showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import type { Tensor } from "../graph/tensor.ts"
import { attention } from "../kernels/attention/attention.ts"
import { concat } from "../kernels/concat.ts"
import { broadcastShapes } from "./axes.ts"

export interface DotProductAttentionOptions {
  /** Query i sees keys 0 … i, counted from the first key also where T ≠ S: PyTorch's `is_causal`. */
  readonly causal?: boolean
  /** Broadcasts to [B, H, T, S]; a query sees the keys where it is above 0. */
  readonly mask?: Tensor
  /** Broadcasts to [B, H, T, S], f32; added to the scores: PyTorch's `attn_mask` of floats. */
  readonly bias?: Tensor
  /** Factor on query · key; default 1/√D. */
  readonly scale?: number
}

/**
 * softmax(q · kᵀ · scale + bias) · v, PyTorch's `scaled_dot_product_attention`. q: [B, H, T, D]; k and v: [B, G, S, D], where G
 * divides H: query head h reads head ⌊h · G / H⌋. Result: [B, H, T, D]. A query that sees no key gets NaN: so do all where
 * what was meant to be added, 0 and −∞, is given as `mask`. Causal attention without mask and bias, over as many keys as
 * queries, runs as the fused kernel, without a matrix of scores.
 */
export const scaledDotProductAttention = (
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { causal = false, mask, bias, scale }: DotProductAttentionOptions = {},
): Tensor => {
  const [batch, heads, queries, headDim] = q.shape as [number, number, number, number]
  const [, kvHeads, keys] = k.shape as [number, number, number]
  const fits =
    q.shape.length === 4 &&
    showShape(k.shape) === showShape([batch, kvHeads, keys, headDim]) &&
    showShape(v.shape) === showShape(k.shape) &&
    heads % kvHeads === 0
  if (!fits)
    throw new ShapeError(
      "scaledDotProductAttention",
      `q ${showShape(q.shape)}, k ${showShape(k.shape)} and v ${showShape(v.shape)} must be [B, H, T, D] and twice [B, G, S, D]`,
    )
  for (const [name, extra] of Object.entries({ mask, bias })) {
    const all = [batch, heads, queries, keys]
    if (extra && !sameShape(broadcastShapes("scaledDotProductAttention", [extra.shape, all]), all))
      throw new ShapeError(
        "scaledDotProductAttention",
        `the ${name} ${showShape(extra.shape)} does not broadcast to ${showShape(all)}`,
      )
  }
  if (bias && computeType(bias.dtype) !== "f32")
    throw new ShapeError("scaledDotProductAttention", `the bias is ${bias.dtype}: cast it to f32 first`)
  const factor = scale ?? 1 / Math.sqrt(headDim)
  if (causal && !mask && !bias && queries === keys && headDim % 4 === 0) {
    const rows = (x: Tensor) => x.transpose([0, 2, 1, 3]).reshape([batch * x.shape[2]!, x.shape[1]! * headDim])
    const spans = spansOf(q, batch, queries)
    const out = attention(rows(q), concat([rows(k), rows(v)], 1), spans, { heads, kvHeads, headDim, scale: factor })
    return out.reshape([batch, queries, heads, headDim]).transpose([0, 2, 1, 3])
  }
  const shared = heads / kvHeads
  const each = (x: Tensor) => (shared === 1 ? x : x.repeatInterleave(shared, 1))
  const products = q.mul(factor).matmul(each(k), { transposeB: true })
  const scores = bias ? products.add(bias) : products
  const order = causal
    ? q.gpu
        .arange(queries, { dtype: "i32" })
        .unsqueeze(1)
        .greaterEqual(q.gpu.arange(keys, { dtype: "i32" }))
    : undefined
  const allowed = mask?.greater(0)
  const seen = order && allowed ? order.and(allowed) : (order ?? allowed)
  return (seen ? seen.where(scores, Number.NEGATIVE_INFINITY) : scores).softmax().matmul(each(v))
}

/** For each row of packed sequences of one length: it sees itself and what comes before it in its sequence. */
const spansOf = ({ gpu }: Tensor, batch: number, length: number): Tensor => {
  const spans = new Int32Array(batch * length * 4)
  for (let i = 0; i < batch * length; i++) spans.set([0, 0, i - (i % length), (i % length) + 1], 4 * i)
  return gpu.tensor(spans, [batch * length, 4])
}
