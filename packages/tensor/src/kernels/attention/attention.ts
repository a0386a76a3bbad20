import { showShape } from "../../dtype.ts"
import { ShapeError } from "../../errors.ts"
import { applyFused, applyFusedOne } from "../../graph/apply.ts"
import type { DeviceTraits, FusedOp } from "../../graph/fused-op.ts"
import type { Tensor } from "../../graph/tensor.ts"
import { plainKeyGradient, plainQueryGradient } from "./plain-gradient.ts"
import { plainAttention } from "./plain.ts"
import type { AttentionLaunch, AttentionProblem } from "./problem.ts"
import { subgroupKeyGradient, subgroupQueryGradient } from "./subgroup-gradient.ts"
import { queryTile, rowsFor } from "./subgroup-queries.ts"
import { subgroupAttention } from "./subgroup.ts"
import { tiledKeyGradient } from "./tiled-keys.ts"
import { tiledAttention, tiledQueryGradient } from "./tiled.ts"
import type { HeadShape } from "../rope.ts"

export interface AttentionOptions extends HeadShape {
  /** Factor on query · key; default 1/√headDim. */
  readonly scale?: number
  /** Sliding window: a query sees the last so many of its keys, its own included; default all. */
  readonly window?: number | undefined
  /** Scores s become softCap · tanh(s / softCap) before the softmax; default off. */
  readonly softCap?: number | undefined
  /** Rows belong to sequences of their own, as in decoding. Makes that faster, and changes no result; default off. */
  readonly alone?: boolean | undefined
}

interface Attributes extends Omit<AttentionProblem, "rows"> {
  readonly alone: boolean
}

/** Rows from which on tiles of one row might be more than an axis of a grid has room for. */
const mostRows = 65_535

/** Who computes attention: a subgroup of `lanes` lanes, a workgroup or an invocation. Any choice gives the same bits. */
const formOf = ({ rows }: AttentionProblem, { forms: { attention }, subgroupSize }: DeviceTraits) => {
  if (rows > mostRows) return { by: "invocation" } as const
  return attention === "subgroup" ? ({ by: attention, lanes: subgroupSize } as const) : ({ by: attention } as const)
}

const forward = (problem: AttentionProblem, alone: boolean, device: DeviceTraits): AttentionLaunch => {
  const form = formOf(problem, device)
  if (form.by === "subgroup") return subgroupAttention(problem, form.lanes, queryTile(problem, form.lanes, { alone }))
  return form.by === "workgroup" && !alone ? tiledAttention(problem) : plainAttention(problem, device.isSoftware)
}

/** In a subgroup's registers the gradients hold more: half as many rows do. */
const gradients = (problem: AttentionProblem, device: DeviceTraits) => {
  const form = formOf(problem, device)
  switch (form.by) {
    case "subgroup":
      return {
        queries: subgroupQueryGradient(problem, form.lanes, queryTile(problem, form.lanes, { most: form.lanes })),
        keys: subgroupKeyGradient(problem, form.lanes, rowsFor(2 * problem.headDim, form.lanes, form.lanes)),
      }
    case "workgroup":
      return { queries: tiledQueryGradient(problem), keys: tiledKeyGradient(problem) }
    case "invocation":
      return {
        queries: plainQueryGradient(problem, device.isSoftware),
        keys: plainKeyGradient(problem, device.isSoftware),
      }
    default:
      return form satisfies never
  }
}

/** What attention and its gradient launch. */
export const attentionLaunches = (problem: AttentionProblem, device: DeviceTraits): readonly AttentionLaunch[] => {
  const { queries, keys } = gradients(problem, device)
  return [forward(problem, false, device), queries, keys]
}

const attentionOp: FusedOp<Attributes> = {
  name: "attention",
  floats: [0, 1],
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
    const { kernel, params, grid } = forward({ rows: q!.spec.shape[0]!, ...attributes }, attributes.alone, emit.device)
    emit.launch(kernel, [q!, kv!, spans!, out!, lse!], params, grid)
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
    const problem = { rows: q!.spec.shape[0]!, ...attributes }
    const delta = emit.scratch({ shape: [problem.rows, problem.heads], dtype: "f32" })
    const { queries, keys } = gradients(problem, emit.device)
    emit.launch(queries.kernel, [q!, kv!, spans!, o!, lse!, grad!, dq!, delta], queries.params, queries.grid)
    emit.launch(keys.kernel, [q!, kv!, spans!, lse!, delta, grad!, dkv!], keys.params, keys.grid)
  },
}

/**
 * Causal attention over sequences packed into rows. q: [N, heads·headDim]; kv: [R, 2·kvHeads·headDim], keys then
 * values; spans: i32 [N, 4], for each query (prefixBase, prefixLength, ownBase, keyCount): the key at position p is row
 * prefixBase + p while p < prefixLength, else ownBase + p − prefixLength; positions 0 … keyCount − 1 are seen, with a
 * window the last `window` of them. Query head h reads key head ⌊h · kvHeads / heads⌋. Result: [N, heads·headDim].
 * Nothing of size N × keys is stored.
 *
 * The gradient needs whole sequences packed in order: R = N, no prefixes, ownBase the first row of the query's sequence and
 * keyCount = row − ownBase + 1.
 */
export const attention = (
  q: Tensor,
  kv: Tensor,
  spans: Tensor,
  { scale, window, softCap, alone = false, ...shape }: AttentionOptions,
): Tensor => {
  const factor = scale ?? 1 / Math.sqrt(shape.headDim)
  return applyFusedOne(attentionOp, [q, kv, spans], { ...shape, scale: factor, window, softCap, alone })
}
