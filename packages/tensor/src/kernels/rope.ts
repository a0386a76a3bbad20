import { sameShape, showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import type { Gpu } from "../device/gpu.ts"
import { applyFused, applyFusedOne } from "../graph/apply.ts"
import type { DeviceTraits, FusedOp } from "../graph/fused-op.ts"
import type { Spec } from "../graph/node.ts"
import type { Tensor } from "../graph/tensor.ts"
import { eachItem, itemParams, itemsGrid, reads, writes, type Kernel } from "../program/kernel.ts"

export interface HeadShape {
  /** Query heads. */
  readonly heads: number
  /** Key and value heads; divides `heads`. */
  readonly kvHeads: number
  readonly headDim: number
}

/** Angles of a {@link ropeTable}: those of plain RoPE by its base, or any others by frequency. */
export type RopeTableOptions = {
  /** Rows of the table: positions 0 … positions − 1. */
  readonly positions: number
} & (
  | { readonly headDim: number; readonly theta: number }
  | {
      /** Angle per position of each pair of dimensions, f32 [rotaryDim / 2]. */
      readonly frequencies: Float32Array
      /** Factor on cosines and sines, by which some scalings sharpen attention. Default 1. */
      readonly scale?: number
    }
)

const { fround } = Math

/** Frequencies of plain RoPE: theta^(−2i/headDim), rounded to f32 at every step as Hugging Face does. */
export const ropeFrequencies = (headDim: number, theta: number): Float32Array =>
  Float32Array.from({ length: headDim / 2 }, (_, i) => 1 / fround(theta ** fround((2 * i) / headDim)))

/**
 * cos ++ sin of position · frequency, [positions, rotaryDim], computed in float64 on the host: WGSL promises too few
 * digits for its own sine. Angles, and products with the scale, are rounded to f32 as in Hugging Face. A table that is
 * narrower than a head turns the head's first dimensions only.
 */
export const ropeTable = (gpu: Gpu, options: RopeTableOptions): Tensor => {
  const { positions } = options
  const plain = "theta" in options
  const frequencies = plain ? ropeFrequencies(options.headDim, options.theta) : options.frequencies
  const scale = plain ? 1 : (options.scale ?? 1)
  const half = frequencies.length
  const table = new Float32Array(positions * 2 * half)
  for (let position = 0; position < positions; position++)
    for (let i = 0; i < half; i++) {
      const angle = fround(position * frequencies[i]!)
      table[position * 2 * half + i] = fround(Math.cos(angle)) * fround(scale)
      table[position * 2 * half + half + i] = fround(Math.sin(angle)) * fround(scale)
    }
  return gpu.tensor(table, [positions, 2 * half], "rope")
}

const params = { ...itemParams, heads: "u32", kvHeads: "u32", headDim: "u32", rotaryDim: "u32" } as const

/** Dimensions that an invocation turns with as many others: four where the halves of a head allow it. */
type Width = 4 | 1
const typeOf = (width: Width) => (width === 4 ? "vec4f" : "f32")

/**
 * An item is a pair of dimensions (or of four neighbours each; parameters then count fours) of one head of one row of
 * q ++ k ++ v. The first rotaryDim dimensions pair up as (j, j + rotaryDim/2) and turn; those beyond pair up among
 * themselves and come along as they are.
 */
const pairOf = (turned: boolean, width: Width) => `
    let perRow = (p.heads + 2u * p.kvHeads) * (p.headDim / 2u);
    let row = i / perRow;
    let head = (i % perRow) / (p.headDim / 2u);
    let j = i % (p.headDim / 2u);
    let half = p.rotaryDim / 2u;
    let inside = j < half;
    let at = select(j + half, j, inside);
    let apart = select(p.headDim / 2u - half, half, inside);
    let source = row * perRow * 2u + head * p.headDim + at;
    let isQuery = head < p.heads;
    ${
      turned
        ? `let turns = inside && head < p.heads + p.kvHeads;
    let angle = u32(positions[row]) * p.rotaryDim + min(j, half - 1u);
    let c = select(${typeOf(width)}(1.0), table[angle], turns);
    let s = select(${typeOf(width)}(), table[angle + half], turns);`
        : `let c = ${typeOf(width)}(1.0); let s = ${typeOf(width)}();`
    }`

interface Attributes extends HeadShape {
  /** Queries and keys turn: the inputs have a table and positions. */
  readonly turned: boolean
  /** Keys and values go into a cache: the inputs have its rows and the cache. */
  readonly cached: boolean
}

/** The inputs by name: qkv, then table and positions if they turn, then rows and cache if there is one. */
const named = <Input>([qkv, ...rest]: readonly Input[], { turned, cached }: Attributes) => {
  const [table, positions] = turned ? rest.splice(0, 2) : []
  const [rows, cache] = cached ? rest : []
  return { qkv: qkv!, table, positions, rows, cache }
}

const forward = ({ turned, cached }: Attributes, width: Width): Kernel => ({
  name: `rope: ${turned ? "turn" : "leave"}, ${cached ? "into cache" : "split"}, by ${width}`,
  params,
  buffers: [
    reads("qkv", typeOf(width)),
    ...(turned ? [reads("table", typeOf(width)), reads("positions", "i32")] : []),
    ...(cached ? [reads("rows", "i32")] : []),
    writes("q", typeOf(width)),
    writes("kv", typeOf(width)),
  ],
  body: () =>
    eachItem(`${pairOf(turned, width)}
    let a = qkv[source]; let b = qkv[source + apart];
    let first = fma(a, c, -(b * s)); let second = fma(b, c, a * s);
    if (isQuery) {
      let place = row * p.heads * p.headDim + head * p.headDim + at;
      q[place] = first; q[place + apart] = second;
    } else {
      let kvRow = ${cached ? "u32(rows[row])" : "row"};
      let place = kvRow * 2u * p.kvHeads * p.headDim + (head - p.heads) * p.headDim + at;
      kv[place] = first; kv[place + apart] = second;
    }`),
})

/** The inverse rotation, back into q ++ k ++ v. */
const backward = (turned: boolean, width: Width): Kernel => ({
  name: `rope gradient: ${turned ? "turn" : "leave"}, by ${width}`,
  params,
  buffers: [
    reads("dq", typeOf(width)),
    reads("dkv", typeOf(width)),
    ...(turned ? [reads("table", typeOf(width)), reads("positions", "i32")] : []),
    writes("out", typeOf(width)),
  ],
  body: () =>
    eachItem(`${pairOf(turned, width)}
    var first: ${typeOf(width)}; var second: ${typeOf(width)};
    if (isQuery) {
      let place = row * p.heads * p.headDim + head * p.headDim + at;
      first = dq[place]; second = dq[place + apart];
    } else {
      let place = row * 2u * p.kvHeads * p.headDim + (head - p.heads) * p.headDim + at;
      first = dkv[place]; second = dkv[place + apart];
    }
    out[source] = fma(first, c, second * s);
    out[source + apart] = fma(second, c, -(first * s));`),
})

const launchShape = (
  rows: number,
  { heads, kvHeads, headDim }: HeadShape,
  table: { readonly spec: Spec } | undefined,
  device: DeviceTraits,
) => {
  const rotaryDim = table?.spec.shape[1] ?? 0
  const width: Width = headDim % 8 === 0 && rotaryDim % 8 === 0 ? 4 : 1
  const { params, grid } = itemsGrid((rows * (heads + 2 * kvHeads) * headDim) / (2 * width), device)
  return { width, params: [...params, heads, kvHeads, headDim / width, rotaryDim / width], grid }
}

const ropeOp: FusedOp<Attributes> = {
  name: "rope",
  floats: [0],
  infer: (inputs, attributes) => {
    const { qkv, table, positions, rows: cacheRows, cache } = named(inputs, attributes)
    const { heads, kvHeads, headDim } = attributes
    const width = (heads + 2 * kvHeads) * headDim
    const rows = qkv.shape[0]!
    const ids = (spec: Spec) => spec.dtype === "i32" && sameShape(spec.shape, [rows])
    if (qkv.shape[1] !== width || headDim % 2 !== 0)
      throw new ShapeError("rope", `qkv ${showShape(qkv.shape)} must be [N, ${width}], with heads of even width`)
    const fits = (each: Spec) => each.dtype === "f32" && each.shape[1]! <= headDim && each.shape[1]! % 2 === 0
    if (table && positions && !(fits(table) && ids(positions)))
      throw new ShapeError(
        "rope",
        `table ${table.dtype} ${showShape(table.shape)} must be f32 [P, ≤ ${headDim}], of even width, and positions ${positions.dtype} ${showShape(positions.shape)} i32 [${rows}]`,
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
  inPlace: ({ turned, cached }): Readonly<Record<number, number>> => (cached ? { 1: turned ? 4 : 2 } : {}),
  lower: (emit, inputs, [q, kv], attributes) => {
    const { qkv, table } = named(inputs, attributes)
    const { width, params, grid } = launchShape(qkv.spec.shape[0]!, attributes, table, emit.device)
    const read = attributes.cached ? inputs.slice(0, -1) : inputs
    emit.launch(forward(attributes, width), [...read, q!, kv!], params, grid)
  },
  backward: ({ inputs, outputs: [q, kv], grads: [dq, dkv], attributes }) => {
    if (attributes.cached) throw new ShapeError("rope", "has no gradient when it writes into a cache")
    const zeros = (like: Tensor) => like.gpu.constant(0).broadcastTo(like.shape)
    const [, ...angles] = inputs
    return [applyFusedOne(gradientOp, [dq ?? zeros(q!), dkv ?? zeros(kv!), ...angles], attributes)]
  },
}

const gradientOp: FusedOp<Attributes> = {
  name: "rope gradient",
  infer: ([dq], { heads, kvHeads, headDim }) => [
    { shape: [dq!.shape[0]!, (heads + 2 * kvHeads) * headDim], dtype: "f32" },
  ],
  lower: (emit, inputs, [out], attributes) => {
    const [, , table] = inputs
    const { width, params, grid } = launchShape(out!.spec.shape[0]!, attributes, table, emit.device)
    emit.launch(backward(attributes.turned, width), [...inputs, out!], params, grid)
  },
}

export interface RopeOptions extends HeadShape {
  /** Where keys and values go instead of a fresh tensor: row `rows[n]` of `cache` [R, 2·kvHeads·headDim], in place. */
  readonly cache?: { readonly cache: Tensor; readonly rows: Tensor }
}

/** Queries [N, heads·headDim], and keys then values in each row [N, 2·kvHeads·headDim]; with a cache, the cache. */
export interface Heads {
  readonly q: Tensor
  readonly kv: Tensor
}

const apply = (qkv: Tensor, angles: readonly Tensor[], { cache, ...shape }: RopeOptions): Heads => {
  const inputs = [qkv, ...angles, ...(cache ? [cache.rows, cache.cache] : [])]
  const attributes = { ...shape, turned: angles.length > 0, cached: cache !== undefined }
  const [q, kv] = applyFused(ropeOp, inputs, attributes)
  return { q: q!, kv: kv! }
}

/**
 * Splits a fused projection and turns queries and keys by their positions (rotary embedding, the half-rotation of
 * Hugging Face's Llama). qkv: [N, (heads + 2·kvHeads)·headDim]; table: {@link ropeTable}; positions: i32 [N].
 */
export const rope = (qkv: Tensor, table: Tensor, positions: Tensor, options: RopeOptions): Heads =>
  apply(qkv, [table, positions], options)

/** Splits a fused projection as {@link rope} does, for layers whose queries and keys do not turn. */
export const splitHeads = (qkv: Tensor, options: RopeOptions): Heads => apply(qkv, [], options)
