import { showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFused, applyFusedOne } from "../graph/apply.ts"
import type { DeviceTraits, FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"
import type { HeadShape } from "./rope.ts"
import { softCapWgsl } from "./soft-cap.ts"

export interface AttentionOptions extends HeadShape {
  /** Factor on query · key; default 1/√headDim. */
  readonly scale?: number
  /** Sliding window: a query sees the last so many of its keys, its own included; default all. */
  readonly window?: number | undefined
  /** Scores s become softCap · tanh(s / softCap) before the softmax; default off. */
  readonly softCap?: number | undefined
}

interface Attributes extends HeadShape {
  readonly scale: number
  readonly window: number | undefined
  readonly softCap: number | undefined
}

const params = {
  rows: "u32",
  heads: "u32",
  kvHeads: "u32",
  scale: "f32",
  window: "u32",
  softCap: "f32",
  quads: "u32",
} as const

const paramsOf = (rows: number, { heads, kvHeads, headDim, scale, window = 2 ** 32 - 1, softCap = 0 }: Attributes) => [
  rows,
  heads,
  kvHeads,
  scale,
  window,
  softCap,
  headDim / 4,
]

/** What the code of the kernels depends on. */
interface Variant {
  readonly headDim: number
  readonly capped: boolean
  readonly unrolled: boolean
}

/** A software driver takes minutes to compile the unrolled loops over a wide head, and gains little from them. */
const variantOf = ({ headDim, softCap }: Attributes, { isSoftware }: DeviceTraits): Variant => ({
  headDim,
  capped: softCap !== undefined,
  unrolled: headDim <= 32 || !isSoftware,
})

const named = (what: string, { headDim, capped }: Variant) => `${what}: head ${headDim}${capped ? ", soft cap" : ""}`

/** Keys that share one rescaling of the running sum. Part of the definition of the result, not of its speed. */
const block = 8

/**
 * WGSL shared by the kernels: vec4s of a head, the score of a product and its slope, the first key in a query's window,
 * and the row at which a query finds the key of a position.
 */
const prelude = ({ headDim, capped }: Variant) => `
const D4 = ${headDim / 4}u;
${
  capped
    ? `${softCapWgsl}
fn score(product: f32) -> f32 { return softCap(product * p.scale, p.softCap); }
fn slope(score: f32) -> f32 { return softCapSlope(score, p.softCap) * p.scale; }`
    : `fn score(product: f32) -> f32 { return product * p.scale; }
fn slope(score: f32) -> f32 { return p.scale; }`
}
fn firstKey(count: u32) -> u32 { return select(0u, count - p.window, count > p.window); }
fn keyRow(span: vec4i, position: u32) -> u32 {
  let prefix = u32(span.y);
  return select(u32(span.z) + position - prefix, u32(span.x) + position, position < prefix);
}`

/** Bound of the loops over a head: a constant, for which compilers unroll them, or a parameter. */
const bound = ({ unrolled }: Variant) => `let quads = ${unrolled ? "D4" : "p.quads"};`

/** q · k: one fma chain per component, then the four components. */
const dot = (a: string, b: string) => `
      var s4 = vec4f();
      for (var d = 0u; d < quads; d++) { s4 = fma(${a}, ${b}, s4); }
      let s = (s4.x + s4.y) + (s4.z + s4.w);`

/**
 * One invocation per query and head walks its keys in order, eight at a time, with a running maximum (online
 * softmax: M. Milakov and N. Gimelshein, 2018). The order depends on positions alone, so a query gives the same bits
 * whether it is decoded alone, beside others, or over a shared prefix. A window skips blocks that lie before it.
 */
const forward = (variant: Variant): Kernel => ({
  name: named("attention", variant),
  params,
  buffers: [reads("q", "vec4f"), reads("kv", "vec4f"), reads("spans", "vec4i"), writes("out", "vec4f"), writes("lse")],
  body: () => `${prelude(variant)}
${perItem(64, "p.rows * p.heads")}
  ${bound(variant)}
  let row = i / p.heads; let head = i % p.heads;
  let kvHead = head / (p.heads / p.kvHeads);
  let span = spans[row];
  let count = u32(span.w);
  let stride = 2u * p.kvHeads * D4;
  var query: array<vec4f, D4>; var acc: array<vec4f, D4>;
  for (var d = 0u; d < quads; d++) { query[d] = q[i * D4 + d]; acc[d] = vec4f(); }
  var top = -3.0e38; var total = 0.0;
  let start = firstKey(count);
  for (var base = start - start % ${block}u; base < count; base += ${block}u) {
    let first = max(base, start);
    let last = min(base + ${block}u, count);
    var scores: array<f32, ${block}>;
    var highest = top;
    for (var key = first; key < last; key++) {
      let at = keyRow(span, key) * stride + kvHead * D4;${dot("query[d]", "kv[at + d]")}
      scores[key - base] = score(s);
      highest = max(highest, scores[key - base]);
    }
    let shrink = exp(top - highest);
    top = highest;
    total *= shrink;
    for (var d = 0u; d < quads; d++) { acc[d] *= shrink; }
    for (var key = first; key < last; key++) {
      let weight = exp(scores[key - base] - top);
      total += weight;
      let at = keyRow(span, key) * stride + (p.kvHeads + kvHead) * D4;
      for (var d = 0u; d < quads; d++) { acc[d] = fma(vec4f(weight), kv[at + d], acc[d]); }
    }
  }
  for (var d = 0u; d < quads; d++) { out[i * D4 + d] = acc[d] / total; }
  lse[i] = top + log(total);
}`,
})

/** Gradient of the queries: the same walk. `delta` = Σ out · grad of the query, also needed by the keys. */
const backwardQuery = (variant: Variant): Kernel => ({
  name: named("attention query gradient", variant),
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
  body: () => `${prelude(variant)}
${perItem(64, "p.rows * p.heads")}
  ${bound(variant)}
  let row = i / p.heads; let head = i % p.heads;
  let kvHead = head / (p.heads / p.kvHeads);
  let span = spans[row];
  let stride = 2u * p.kvHeads * D4;
  var query: array<vec4f, D4>; var g: array<vec4f, D4>; var acc: array<vec4f, D4>;
  var d4 = vec4f();
  for (var d = 0u; d < quads; d++) {
    query[d] = q[i * D4 + d]; g[d] = grad[i * D4 + d]; acc[d] = vec4f();
    d4 = fma(g[d], o[i * D4 + d], d4);
  }
  let own = (d4.x + d4.y) + (d4.z + d4.w);
  let norm = lse[i];
  for (var key = firstKey(u32(span.w)); key < u32(span.w); key++) {
    let kAt = keyRow(span, key) * stride + kvHead * D4;
    let vAt = kAt + p.kvHeads * D4;
    var pull: f32; var z: f32;
    {${dot("query[d]", "kv[kAt + d]")}
      z = score(s);
    }
    {${dot("g[d]", "kv[vAt + d]")}
      pull = exp(z - norm) * (s - own) * slope(z);
    }
    for (var d = 0u; d < quads; d++) { acc[d] = fma(vec4f(pull), kv[kAt + d], acc[d]); }
  }
  for (var d = 0u; d < quads; d++) { dq[i * D4 + d] = acc[d]; }
  delta[i] = own;
}`,
})

/**
 * Gradient of the keys and values: one invocation per key row and key head goes through the queries that see it. Those
 * are the rows from its own on while they belong to the same sequence, which is how training packs sequences.
 */
const backwardKey = (variant: Variant): Kernel => ({
  name: named("attention key gradient", variant),
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
  body: () => `${prelude(variant)}
${perItem(64, "p.rows * p.kvHeads")}
  ${bound(variant)}
  let row = i / p.kvHeads; let kvHead = i % p.kvHeads;
  let perKey = p.heads / p.kvHeads;
  let stride = 2u * p.kvHeads * D4;
  let kAt = row * stride + kvHead * D4;
  let vAt = kAt + p.kvHeads * D4;
  var k: array<vec4f, D4>; var v: array<vec4f, D4>; var dk: array<vec4f, D4>; var dv: array<vec4f, D4>;
  for (var d = 0u; d < quads; d++) { k[d] = kv[kAt + d]; v[d] = kv[vAt + d]; dk[d] = vec4f(); dv[d] = vec4f(); }
  let start = spans[row].z;
  for (var other = row; other < p.rows; other++) {
    let span = spans[other];
    let position = row - u32(start);
    if (span.z != start || u32(span.w) <= position || firstKey(u32(span.w)) > position) { break; }
    for (var part = 0u; part < perKey; part++) {
      let query = other * p.heads + kvHead * perKey + part;
      let at = query * D4;
      var weight: f32; var pull: f32; var z: f32;
      {${dot("q[at + d]", "k[d]")}
        z = score(s);
        weight = exp(z - lse[query]);
      }
      {${dot("grad[at + d]", "v[d]")}
        pull = weight * (s - delta[query]) * slope(z);
      }
      for (var d = 0u; d < quads; d++) {
        dk[d] = fma(vec4f(pull), q[at + d], dk[d]);
        dv[d] = fma(vec4f(weight), grad[at + d], dv[d]);
      }
    }
  }
  for (var d = 0u; d < quads; d++) { dkv[kAt + d] = dk[d]; dkv[vAt + d] = dv[d]; }
}`,
})

const attentionOp: FusedOp<Attributes> = {
  name: "attention",
  infer: ([q, kv, spans], { heads, kvHeads, headDim, window }) => {
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
    if (window !== undefined && !(Number.isInteger(window) && window > 0))
      throw new ShapeError("attention", `a window of ${window} keys is not a positive integer`)
    return [
      { shape: q!.shape, dtype: "f32" },
      { shape: [rows, heads], dtype: "f32" },
    ]
  },
  lower: (emit, [q, kv, spans], [out, lse], attributes) => {
    const rows = q!.spec.shape[0]!
    const operands = [q!, kv!, spans!, out!, lse!]
    const kernel = forward(variantOf(attributes, emit.device))
    emit.launch(kernel, operands, paramsOf(rows, attributes), gridFor(rows * attributes.heads, 64))
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
  lower: (emit, [q, kv, spans, o, lse, grad], [dq, dkv], attributes) => {
    const rows = q!.spec.shape[0]!
    const { heads, kvHeads } = attributes
    const delta = emit.scratch({ shape: [rows, heads], dtype: "f32" })
    const params = paramsOf(rows, attributes)
    const variant = variantOf(attributes, emit.device)
    const queries = [q!, kv!, spans!, o!, lse!, grad!, dq!, delta]
    const keys = [q!, kv!, spans!, lse!, delta, grad!, dkv!]
    emit.launch(backwardQuery(variant), queries, params, gridFor(rows * heads, 64))
    emit.launch(backwardKey(variant), keys, params, gridFor(rows * kvHeads, 64))
  },
}

/**
 * Causal attention over sequences packed into rows. q: [N, heads·headDim]; kv: [R, 2·kvHeads·headDim], keys then
 * values; spans: i32 [N, 4], for each query (prefixBase, prefixLength, ownBase, keyCount): the key at position p is row
 * prefixBase + p while p < prefixLength, else ownBase + p − prefixLength; positions 0 … keyCount − 1 are seen, with a
 * window the last `window` of them. Query head h reads key head ⌊h · kvHeads / heads⌋. Result: [N, heads·headDim].
 * Nothing of size N × keys is stored.
 *
 * The gradient needs R = N and no prefixes (ownBase = first row of the query's sequence).
 */
export const attention = (
  q: Tensor,
  kv: Tensor,
  spans: Tensor,
  { scale, window, softCap, ...shape }: AttentionOptions,
): Tensor => {
  const factor = scale ?? 1 / Math.sqrt(shape.headDim)
  return applyFusedOne(attentionOp, [q, kv, spans], { ...shape, scale: factor, window, softCap })
}
