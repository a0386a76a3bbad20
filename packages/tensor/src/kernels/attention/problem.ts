import type { ComputeType } from "../../dtype.ts"
import { reads, writes, type Grid, type Kernel } from "../../program/kernel.ts"
import type { HeadShape } from "../rope.ts"

/**
 * What the kernels of attention compute, and the one order in which all of them add. A query walks the keys that it sees
 * in blocks of 32, counted from position 0; a window skips blocks before it. With factor · raw the score of a key:
 *
 *     product = one chain of fma over the head, d ascending; raw = product, or with a soft cap tanh(product · scale / cap)
 *     highest = max(top, factor · raw of the block), shrink = exp(top − highest), top = highest
 *     weight  = exp(fma(factor, raw, −top)), 0 for a key that is not seen
 *     total   = fma(total, shrink, sum of the weights), four neighbours as (x + y) + (z + w), the fours by a tree
 *     sum     = sum · shrink, then fma(weight, value, sum) for each key that is seen, in order
 *
 * The gradient of a query adds its keys in order, pull = weight · (gradient · value − delta) · slope times the key, the
 * gradients of a key and its value the queries that see it, rows in order and the heads of a row in order.
 *
 * Positions decide all of it, so a query gives the same bits decoded alone, beside others, or over a shared prefix. Where
 * a compiler could contract a product and a sum, the fma is written out: kernels do not differ in what it makes of them.
 */
export interface AttentionProblem extends HeadShape {
  readonly rows: number
  readonly scale: number
  readonly window: number | undefined
  readonly softCap: number | undefined
}

export interface AttentionLaunch {
  readonly kernel: Kernel
  readonly params: readonly number[]
  readonly grid: Grid
}

/** Keys that share one rescaling of the running sums. */
export const keyBlock = 32

export const attentionParams = {
  rows: "u32",
  heads: "u32",
  kvHeads: "u32",
  scale: "f32",
  window: "u32",
  softCap: "f32",
  quads: "u32",
} as const satisfies Readonly<Record<string, ComputeType>>

/** Without a window, a number of keys that is never reached, and to which a position can still be added. */
const noWindow = 2 ** 30

export const attentionParamsOf = ({
  rows,
  heads,
  kvHeads,
  headDim,
  scale,
  window = noWindow,
  softCap = 0,
}: AttentionProblem): readonly number[] => [
  rows,
  heads,
  kvHeads,
  scale,
  Math.min(window, noWindow),
  softCap,
  headDim / 4,
]

/** Buffers of the forward kernels, in binding order. */
export const attentionBuffers = [
  reads("q", "vec4f"),
  reads("kv", "vec4f"),
  reads("spans", "vec4i"),
  writes("out", "vec4f"),
  writes("lse"),
] as const

/** Buffers of the kernels of the gradient. `delta` is Σ out · gradient of a query, which its keys need too. */
export const gradientBuffers = {
  queries: [
    reads("q", "vec4f"),
    reads("kv", "vec4f"),
    reads("spans", "vec4i"),
    reads("o", "vec4f"),
    reads("lse"),
    reads("grad", "vec4f"),
    writes("dq", "vec4f"),
    writes("delta"),
  ],
  keys: [
    reads("q", "vec4f"),
    reads("kv", "vec4f"),
    reads("spans", "vec4i"),
    reads("lse"),
    reads("delta"),
    reads("grad", "vec4f"),
    writes("dkv", "vec4f"),
  ],
} as const

/** Names what the text of a kernel depends on, for {@link attentionWgsl}. */
export const variantName = ({ headDim, softCap }: AttentionProblem): string =>
  `head ${headDim}${softCap === undefined ? "" : ", soft cap"}`

/**
 * WGSL that all kernels share, of products of type `T`: vec4s of a head; `factor` and `raw`, whose product is the score;
 * the slope of the score by the product; the first key in a query's window; the row of a span's key at a position.
 */
export const attentionWgsl = ({ headDim, softCap }: AttentionProblem, T: "f32" | "vec4f"): string => `
const D4 = ${headDim / 4}u;
const lowest = -3.0e38;
${
  softCap === undefined
    ? `fn factorOf() -> f32 { return p.scale; }
fn raw(product: ${T}) -> ${T} { return product; }
fn slope(raw: ${T}) -> ${T} { return ${T}(p.scale); }`
    : `fn factorOf() -> f32 { return p.softCap; }
fn raw(product: ${T}) -> ${T} { return tanh(clamp(product * p.scale / p.softCap, ${T}(-9.0), ${T}(9.0))); }
fn slope(raw: ${T}) -> ${T} { return fma(-raw, raw, ${T}(1.0)) * p.scale; }`
}
fn firstKey(count: i32) -> i32 { return max(0, count - i32(p.window)); }
fn keyRow(span: vec4i, position: i32) -> u32 {
  return u32(select(span.z - span.y, span.x, position < span.y) + position);
}`

/**
 * WGSL: how many of the `most` rows from `first` on, whose span is `span`, find their keys in the same places, each seeing one
 * more than the row before. They are a run, and walk together.
 */
export const runLengthWgsl = `
fn runLength(span: vec4i, first: u32, most: u32) -> u32 {
  var length = 1u;
  for (; length < most; length++) {
    if (any(spans[first + length] != span + vec4i(0, 0, 0, i32(length)))) { break; }
  }
  return length;
}`

/** Adds the product of two vec4s to the chain `sum`. */
export const addProduct = (sum: string, a: string, b: string): string =>
  ["x", "y", "z", "w"].map((c) => `${sum} = fma(${a}.${c}, ${b}.${c}, ${sum});`).join(" ")
