import { sameShape, showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import type { Gpu } from "../device/gpu.ts"
import { applyFused, applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Spec } from "../graph/node.ts"
import type { Tensor } from "../graph/tensor.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"

export interface HeadShape {
  /** Query heads. */
  readonly heads: number
  /** Key and value heads; divides `heads`. */
  readonly kvHeads: number
  readonly headDim: number
}

export interface RopeTableOptions {
  /** Rows of the table: positions 0 … positions − 1. */
  readonly positions: number
  readonly headDim: number
  /** Base of the frequencies. */
  readonly theta: number
}

/**
 * cos ++ sin of position · theta^(−2i/headDim), [positions, headDim], computed in float64 on the host: WGSL promises
 * too few digits for its own sine. Frequencies and angles are rounded to f32 at every step, as Hugging Face does.
 */
export const ropeTable = (gpu: Gpu, { positions, headDim, theta }: RopeTableOptions): Tensor => {
  const half = headDim / 2
  const { fround } = Math
  const frequencies = Float32Array.from({ length: half }, (_, i) => 1 / fround(theta ** fround((2 * i) / headDim)))
  const table = new Float32Array(positions * headDim)
  for (let position = 0; position < positions; position++)
    for (let i = 0; i < half; i++) {
      const angle = fround(position * frequencies[i]!)
      table[position * headDim + i] = Math.cos(angle)
      table[position * headDim + half + i] = Math.sin(angle)
    }
  return gpu.tensor(table, [positions, headDim], "rope")
}

const params = { items: "u32", heads: "u32", kvHeads: "u32", headDim: "u32" } as const

/** One invocation per pair (j, j + headDim/2) of one head of one row of the fused projection q ++ k ++ v. */
const pairOf = `
  let half = p.headDim / 2u;
  let perRow = (p.heads + 2u * p.kvHeads) * half;
  let row = i / perRow;
  let head = (i % perRow) / half;
  let j = i % half;
  let source = row * perRow * 2u + head * p.headDim + j;
  let angles = u32(positions[row]) * p.headDim + j;
  let isQuery = head < p.heads;
  let turns = head < p.heads + p.kvHeads;
  let c = select(1.0, table[angles], turns);
  let s = select(0.0, table[angles + half], turns);`

const forward = (cached: boolean): Kernel => ({
  name: `rope: ${cached ? "into cache" : "split"}`,
  params,
  buffers: [
    reads("qkv"),
    reads("table"),
    reads("positions", "i32"),
    ...(cached ? [reads("rows", "i32")] : []),
    writes("q"),
    writes("kv"),
  ],
  body: () => `${perItem(64, "p.items")}
  ${pairOf}
  let a = qkv[source]; let b = qkv[source + half];
  let first = a * c - b * s; let second = b * c + a * s;
  if (isQuery) {
    let to = row * p.heads * p.headDim + head * p.headDim + j;
    q[to] = first; q[to + half] = second;
  } else {
    let kvRow = ${cached ? "u32(rows[row])" : "row"};
    let to = kvRow * 2u * p.kvHeads * p.headDim + (head - p.heads) * p.headDim + j;
    kv[to] = first; kv[to + half] = second;
  }
}`,
})

/** The inverse rotation, back into q ++ k ++ v. */
const backward: Kernel = {
  name: "rope gradient",
  params,
  buffers: [reads("dq"), reads("dkv"), reads("table"), reads("positions", "i32"), writes("out")],
  body: () => `${perItem(64, "p.items")}
  ${pairOf}
  var first: f32; var second: f32;
  if (isQuery) {
    let at = row * p.heads * p.headDim + head * p.headDim + j;
    first = dq[at]; second = dq[at + half];
  } else {
    let at = row * 2u * p.kvHeads * p.headDim + (head - p.heads) * p.headDim + j;
    first = dkv[at]; second = dkv[at + half];
  }
  out[source] = first * c + second * s;
  out[source + half] = second * c - first * s;
}`,
}

interface Attributes extends HeadShape {
  readonly cached: boolean
}

const launchShape = (rows: number, { heads, kvHeads, headDim }: HeadShape) => {
  const items = rows * (heads + 2 * kvHeads) * (headDim / 2)
  return { params: [items, heads, kvHeads, headDim], grid: gridFor(items, 64) }
}

const ropeOp: FusedOp<Attributes> = {
  name: "rope",
  infer: ([qkv, table, positions, cacheRows, cache], { heads, kvHeads, headDim }) => {
    const width = (heads + 2 * kvHeads) * headDim
    const rows = qkv!.shape[0]!
    const ids = (spec: Spec) => spec.dtype === "i32" && sameShape(spec.shape, [rows])
    if (qkv!.shape[1] !== width || table!.shape[1] !== headDim || !ids(positions!))
      throw new ShapeError(
        "rope",
        `qkv ${showShape(qkv!.shape)} must be [N, ${width}], table ${showShape(table!.shape)} [P, ${headDim}] and positions ${positions!.dtype} ${showShape(positions!.shape)} i32 [N]`,
      )
    if (cache && (!ids(cacheRows!) || cache.shape[1] !== 2 * kvHeads * headDim))
      throw new ShapeError(
        "rope",
        `cache ${showShape(cache.shape)} must be [R, ${2 * kvHeads * headDim}] and its rows ${cacheRows!.dtype} ${showShape(cacheRows!.shape)} i32 [${rows}]`,
      )
    return [
      { shape: [rows, heads * headDim], dtype: "f32" },
      cache ?? { shape: [rows, 2 * kvHeads * headDim], dtype: "f32" },
    ]
  },
  inPlace: ({ cached }): Readonly<Record<number, number>> => (cached ? { 1: 4 } : {}),
  lower: (emit, inputs, [q, kv], attributes) => {
    const [qkv, table, positions, rows] = inputs
    const { params, grid } = launchShape(qkv!.spec.shape[0]!, attributes)
    const operands = attributes.cached ? [qkv!, table!, positions!, rows!, q!, kv!] : [qkv!, table!, positions!, q!, kv!]
    emit.launch(forward(attributes.cached), operands, params, grid)
  },
  backward: ({ inputs: [qkv, table, positions], outputs: [q, kv], grads: [dq, dkv], attributes }) => {
    if (attributes.cached) throw new ShapeError("rope", "has no gradient when it writes into a cache")
    const zeros = (like: Tensor) => like.gpu.constant(0).broadcastTo(like.shape)
    const inputs = [dq ?? zeros(q!), dkv ?? zeros(kv!), table!, positions!]
    return [applyFusedOne(gradientOp, inputs, { ...attributes, width: qkv!.shape[1]! })]
  },
}

const gradientOp: FusedOp<HeadShape & { readonly width: number }> = {
  name: "rope gradient",
  infer: ([dq], { width }) => [{ shape: [dq!.shape[0]!, width], dtype: "f32" }],
  lower: (emit, inputs, [out], attributes) => {
    const { params, grid } = launchShape(out!.spec.shape[0]!, attributes)
    emit.launch(backward, [...inputs, out!], params, grid)
  },
}

export interface RopeOptions extends HeadShape {
  /** Where keys and values go instead of a fresh tensor: row `rows[n]` of `cache` [R, 2·kvHeads·headDim], in place. */
  readonly cache?: { readonly cache: Tensor; readonly rows: Tensor }
}

/**
 * Splits a fused projection and turns queries and keys by their positions (rotary embedding, the half-rotation of
 * Hugging Face's Llama). qkv: [N, (heads + 2·kvHeads)·headDim]; table: {@link ropeTable}; positions: i32 [N].
 * Result: q [N, heads·headDim] and kv [N, 2·kvHeads·headDim], keys then values in each row; with a cache, the cache.
 */
export const rope = (
  qkv: Tensor,
  table: Tensor,
  positions: Tensor,
  { cache, ...shape }: RopeOptions,
): { readonly q: Tensor; readonly kv: Tensor } => {
  const inputs = cache ? [qkv, table, positions, cache.rows, cache.cache] : [qkv, table, positions]
  const [q, kv] = applyFused(ropeOp, inputs, { ...shape, cached: cache !== undefined })
  return { q: q!, kv: kv! }
}
