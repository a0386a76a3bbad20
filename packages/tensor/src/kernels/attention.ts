import { showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFused, applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"
import type { HeadShape } from "./rope.ts"

export interface AttentionOptions extends HeadShape {
  /** Factor on query · key; default 1/√headDim. */
  readonly scale?: number
}

type Attributes = Required<AttentionOptions>

const params = { rows: "u32", heads: "u32", kvHeads: "u32", scale: "f32" } as const

/** Keys that share one rescaling of the running sum. Part of the definition of the result, not of its speed. */
const block = 8

/** WGSL shared by the kernels: vec4s of a head, and the row at which a query finds the key of a position. */
const prelude = (headDim: number) => `
const D4 = ${headDim / 4}u;
fn keyRow(span: vec4i, position: u32) -> u32 {
  let prefix = u32(span.y);
  return select(u32(span.z) + position - prefix, u32(span.x) + position, position < prefix);
}`

/** q · k: one fma chain per component, then the four components. */
const dot = (a: string, b: string) => `
      var s4 = vec4f();
      for (var d = 0u; d < D4; d++) { s4 = fma(${a}, ${b}, s4); }
      let s = (s4.x + s4.y) + (s4.z + s4.w);`

/**
 * One invocation per query and head walks its keys in order, eight at a time, with a running maximum (online
 * softmax: M. Milakov and N. Gimelshein, 2018). The order depends on positions alone, so a query gives the same bits
 * whether it is decoded alone, beside others, or over a shared prefix.
 */
const forward = (headDim: number): Kernel => ({
  name: `attention: head ${headDim}`,
  params,
  buffers: [reads("q", "vec4f"), reads("kv", "vec4f"), reads("spans", "vec4i"), writes("out", "vec4f"), writes("lse")],
  body: () => `${prelude(headDim)}
${perItem(64, "p.rows * p.heads")}
  let row = i / p.heads; let head = i % p.heads;
  let kvHead = head / (p.heads / p.kvHeads);
  let span = spans[row];
  let count = u32(span.w);
  let stride = 2u * p.kvHeads * D4;
  var query: array<vec4f, D4>; var acc: array<vec4f, D4>;
  for (var d = 0u; d < D4; d++) { query[d] = q[i * D4 + d]; acc[d] = vec4f(); }
  var top = -3.0e38; var total = 0.0;
  for (var first = 0u; first < count; first += ${block}u) {
    let last = min(first + ${block}u, count);
    var scores: array<f32, ${block}>;
    var highest = top;
    for (var key = first; key < last; key++) {
      let at = keyRow(span, key) * stride + kvHead * D4;${dot("query[d]", "kv[at + d]")}
      scores[key - first] = s * p.scale;
      highest = max(highest, scores[key - first]);
    }
    let shrink = exp(top - highest);
    top = highest;
    total *= shrink;
    for (var d = 0u; d < D4; d++) { acc[d] *= shrink; }
    for (var key = first; key < last; key++) {
      let weight = exp(scores[key - first] - top);
      total += weight;
      let at = keyRow(span, key) * stride + (p.kvHeads + kvHead) * D4;
      for (var d = 0u; d < D4; d++) { acc[d] = fma(vec4f(weight), kv[at + d], acc[d]); }
    }
  }
  for (var d = 0u; d < D4; d++) { out[i * D4 + d] = acc[d] / total; }
  lse[i] = top + log(total);
}`,
})

/** Gradient of the queries: the same walk. `delta` = Σ out · grad of the query, also needed by the keys. */
const backwardQuery = (headDim: number): Kernel => ({
  name: `attention query gradient: head ${headDim}`,
  params,
  buffers: [
    reads("q", "vec4f"),
    reads("kv", "vec4f"),
    reads("spans", "vec4i"),
    reads("o", "vec4f"),
    reads("lse"),
    reads("grad", "vec4f"),
    writes("dq", "vec4f"),
    writes("delta"),
  ],
  body: () => `${prelude(headDim)}
${perItem(64, "p.rows * p.heads")}
  let row = i / p.heads; let head = i % p.heads;
  let kvHead = head / (p.heads / p.kvHeads);
  let span = spans[row];
  let stride = 2u * p.kvHeads * D4;
  var query: array<vec4f, D4>; var g: array<vec4f, D4>; var acc: array<vec4f, D4>;
  var d4 = vec4f();
  for (var d = 0u; d < D4; d++) {
    query[d] = q[i * D4 + d]; g[d] = grad[i * D4 + d]; acc[d] = vec4f();
    d4 = fma(g[d], o[i * D4 + d], d4);
  }
  let own = (d4.x + d4.y) + (d4.z + d4.w);
  let norm = lse[i];
  for (var key = 0u; key < u32(span.w); key++) {
    let kAt = keyRow(span, key) * stride + kvHead * D4;
    let vAt = kAt + p.kvHeads * D4;
    var pull: f32; var weight: f32;
    {${dot("query[d]", "kv[kAt + d]")}
      weight = exp(s * p.scale - norm);
    }
    {${dot("g[d]", "kv[vAt + d]")}
      pull = weight * (s - own) * p.scale;
    }
    for (var d = 0u; d < D4; d++) { acc[d] = fma(vec4f(pull), kv[kAt + d], acc[d]); }
  }
  for (var d = 0u; d < D4; d++) { dq[i * D4 + d] = acc[d]; }
  delta[i] = own;
}`,
})

/**
 * Gradient of the keys and values: one invocation per key row and key head goes through the queries that see it. Those
 * are the rows from its own on while they belong to the same sequence, which is how training packs sequences.
 */
const backwardKey = (headDim: number): Kernel => ({
  name: `attention key gradient: head ${headDim}`,
  params,
  buffers: [
    reads("q", "vec4f"),
    reads("kv", "vec4f"),
    reads("spans", "vec4i"),
    reads("lse"),
    reads("delta"),
    reads("grad", "vec4f"),
    writes("dkv", "vec4f"),
  ],
  body: () => `${prelude(headDim)}
${perItem(64, "p.rows * p.kvHeads")}
  let row = i / p.kvHeads; let kvHead = i % p.kvHeads;
  let perKey = p.heads / p.kvHeads;
  let stride = 2u * p.kvHeads * D4;
  let kAt = row * stride + kvHead * D4;
  let vAt = kAt + p.kvHeads * D4;
  var k: array<vec4f, D4>; var v: array<vec4f, D4>; var dk: array<vec4f, D4>; var dv: array<vec4f, D4>;
  for (var d = 0u; d < D4; d++) { k[d] = kv[kAt + d]; v[d] = kv[vAt + d]; dk[d] = vec4f(); dv[d] = vec4f(); }
  let start = spans[row].z;
  for (var other = row; other < p.rows; other++) {
    let span = spans[other];
    if (span.z != start || u32(span.w) <= row - u32(start)) { break; }
    for (var part = 0u; part < perKey; part++) {
      let query = other * p.heads + kvHead * perKey + part;
      let at = query * D4;
      var weight: f32; var pull: f32;
      {${dot("q[at + d]", "k[d]")}
        weight = exp(s * p.scale - lse[query]);
      }
      {${dot("grad[at + d]", "v[d]")}
        pull = weight * (s - delta[query]) * p.scale;
      }
      for (var d = 0u; d < D4; d++) {
        dk[d] = fma(vec4f(pull), q[at + d], dk[d]);
        dv[d] = fma(vec4f(weight), grad[at + d], dv[d]);
      }
    }
  }
  for (var d = 0u; d < D4; d++) { dkv[kAt + d] = dk[d]; dkv[vAt + d] = dv[d]; }
}`,
})

const attentionOp: FusedOp<Attributes> = {
  name: "attention",
  infer: ([q, kv, spans], { heads, kvHeads, headDim }) => {
    const rows = q!.shape[0]!
    const fits =
      q!.shape[1] === heads * headDim &&
      kv!.shape[1] === 2 * kvHeads * headDim &&
      spans!.dtype === "i32" &&
      spans!.shape[0] === rows &&
      spans!.shape[1] === 4
    if (!fits || headDim % 4 !== 0 || heads % kvHeads !== 0)
      throw new ShapeError(
        "attention",
        `q ${showShape(q!.shape)}, kv ${showShape(kv!.shape)} and spans ${showShape(spans!.shape)} do not fit ${heads} heads over ${kvHeads} of ${headDim} (a multiple of 4)`,
      )
    return [
      { shape: q!.shape, dtype: "f32" },
      { shape: [rows, heads], dtype: "f32" },
    ]
  },
  lower: (emit, [q, kv, spans], [out, lse], { heads, kvHeads, headDim, scale }) => {
    const rows = q!.spec.shape[0]!
    emit.launch(
      forward(headDim),
      [q!, kv!, spans!, out!, lse!],
      [rows, heads, kvHeads, scale],
      gridFor(rows * heads, 64),
    )
  },
  backward: ({ inputs, outputs, grads: [g], attributes }) => {
    const [dq, dkv] = applyFused(gradientOp, [...inputs, ...outputs, g!], attributes)
    return [dq, dkv]
  },
}

const gradientOp: FusedOp<Attributes> = {
  name: "attention gradient",
  infer: ([q, kv]) => {
    if (q!.shape[0] !== kv!.shape[0])
      throw new ShapeError("attention", "has a gradient only where every row brings its own key, as in training")
    return [q!, kv!]
  },
  lower: (emit, [q, kv, spans, o, lse, grad], [dq, dkv], { heads, kvHeads, headDim, scale }) => {
    const rows = q!.spec.shape[0]!
    const delta = emit.scratch({ shape: [rows, heads], dtype: "f32" })
    const params = [rows, heads, kvHeads, scale]
    emit.launch(
      backwardQuery(headDim),
      [q!, kv!, spans!, o!, lse!, grad!, dq!, delta],
      params,
      gridFor(rows * heads, 64),
    )
    emit.launch(
      backwardKey(headDim),
      [q!, kv!, spans!, lse!, delta, grad!, dkv!],
      params,
      gridFor(rows * kvHeads, 64),
    )
  },
}

/**
 * Causal attention over sequences packed into rows. q: [N, heads·headDim]; kv: [R, 2·kvHeads·headDim], keys then
 * values; spans: i32 [N, 4], for each query (prefixBase, prefixLength, ownBase, keyCount): the key at position p is row
 * prefixBase + p while p < prefixLength, else ownBase + p − prefixLength; positions 0 … keyCount − 1 are seen. Query
 * head h reads key head ⌊h · kvHeads / heads⌋. Result: [N, heads·headDim]. Nothing of size N × keys is stored.
 *
 * The gradient needs R = N and no prefixes (ownBase = first row of the query's sequence).
 */
export const attention = (
  q: Tensor,
  kv: Tensor,
  spans: Tensor,
  { scale, ...shape }: AttentionOptions,
): Tensor => applyFusedOne(attentionOp, [q, kv, spans], { ...shape, scale: scale ?? 1 / Math.sqrt(shape.headDim) })
