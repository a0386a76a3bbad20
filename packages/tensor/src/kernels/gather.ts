import { computeType, showShape, type ComputeType, type Shape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { axisOf, splitAt } from "../ops/axes.ts"
import type { Range } from "../ops/shape.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"

interface Attributes {
  readonly axis: number
  /** Indices (i32, or u32 read as such) have a place for every element of the result; otherwise they are a list for the axis. */
  readonly aligned: boolean
}

/** Index `k` of line (o, j) along the axis, and whether it is one. */
const lookup = (k: string) => `
    let id = ids[select(${k}, (o * p.count + ${k}) * p.inner + j, p.aligned == 1u)];
    let found = id >= 0 && u32(id) < p.length;`

const params = { items: "u32", length: "u32", inner: "u32", count: "u32", aligned: "u32" } as const

/** Bits are bits: one kernel for every dtype. */
const gatherKernel: Kernel = {
  name: "gather",
  params,
  buffers: [reads("x", "u32"), reads("ids", "i32"), writes("out", "u32")],
  body: () => `${perItem(64, "p.items")}
  let j = i % p.inner; let k = (i / p.inner) % p.count; let o = i / (p.inner * p.count);
  ${lookup("k")}
  out[i] = select(0u, x[(o * p.length + select(0u, u32(id), found)) * p.inner + j], found);
}`,
}

/** One invocation per line along the axis goes through its sources in order: no atomics, and one order of additions. */
const scatterKernel = (mode: "add" | "set", type: ComputeType): Kernel => ({
  name: `scatter ${mode} ${type}`,
  params,
  buffers: [reads("source", type), reads("ids", "i32"), writes("out", type)],
  body: () => `${perItem(64, "p.items")}
  let j = i % p.inner; let o = i / p.inner;
  for (var k = 0u; k < p.count; k++) {
    ${lookup("k")}
    if (!found) { continue; }
    let at = (o * p.length + u32(id)) * p.inner + j;
    out[at] = ${mode === "add" ? "out[at] + " : ""}source[(o * p.count + k) * p.inner + j];
  }
}`,
})

const zero: Kernel = {
  name: "zero words",
  params: { items: "u32" },
  buffers: [writes("out", "u32")],
  body: () => `${perItem(64, "p.items")}
  out[i] = 0u;
}`,
}

const copy: Kernel = {
  name: "copy words",
  params: { items: "u32" },
  buffers: [reads("x", "u32"), writes("out", "u32")],
  body: () => `${perItem(64, "p.items")}
  out[i] = x[i];
}`,
}

const gatherOp: FusedOp<Attributes> = {
  name: "gather",
  infer: ([x, ids], { axis, aligned }) => [
    { shape: x!.shape.with(axis, ids!.shape[aligned ? axis : 0]!), dtype: x!.dtype },
  ],
  lower: (emit, [x, ids], [out], { axis, aligned }) => {
    const { length, inner } = splitAt(x!.spec.shape, axis)
    const { outer, length: count } = splitAt(out!.spec.shape, axis)
    const items = outer * count * inner
    emit.launch(gatherKernel, [x!, ids!, out!], [items, length, inner, count, Number(aligned)], gridFor(items, 64))
  },
  backward: ({ inputs: [x, ids], grads: [g], attributes }) => [
    applyFusedOne(scatterSumOp, [g!, ids!], { ...attributes, length: x!.shape[attributes.axis]! }),
  ],
}

const scatterSumOp: FusedOp<Attributes & { readonly length: number }> = {
  name: "scatterAdd",
  infer: ([source], { axis, length }) => [
    { shape: source!.shape.with(axis, length), dtype: computeType(source!.dtype) },
  ],
  lower: (emit, [source, ids], [out], { axis, aligned }) => {
    const { outer, length: count, inner } = splitAt(source!.spec.shape, axis)
    const { length } = splitAt(out!.spec.shape, axis)
    const all = outer * length * inner
    emit.launch(zero, [out!], [all], gridFor(all, 64))
    const lines = outer * inner
    const kernel = scatterKernel("add", computeType(source!.spec.dtype))
    emit.launch(kernel, [source!, ids!, out!], [lines, length, inner, count, Number(aligned)], gridFor(lines, 64))
  },
  backward: ({ inputs: [, ids], grads: [g], attributes: { axis, aligned } }) => [
    applyFusedOne(gatherOp, [g!, ids!], { axis, aligned }),
  ],
}

const scatterOp: FusedOp<Attributes> = {
  name: "scatter",
  infer: ([x]) => [x!],
  lower: (emit, [x, ids, source], [out], { axis, aligned }) => {
    const { outer, length, inner } = splitAt(x!.spec.shape, axis)
    const count = source!.spec.shape[axis]!
    const all = outer * length * inner
    emit.launch(copy, [x!, out!], [all], gridFor(all, 64))
    const lines = outer * inner
    const kernel = scatterKernel("set", "u32")
    emit.launch(kernel, [source!, ids!, out!], [lines, length, inner, count, Number(aligned)], gridFor(lines, 64))
  },
  backward: ({ inputs: [x, ids, source], grads: [g], attributes }) => {
    const { axis } = attributes
    // Of several values for one place the last one stays: it alone has a gradient.
    const count = source!.shape[axis]!
    const order = x!.gpu
      .arange(count, { dtype: "i32" })
      .reshape(source!.shape.map((_, i) => (i === axis ? count : 1)))
      .broadcastTo(source!.shape)
    const places = x!.gpu.constant(-1, "i32").broadcastTo(x!.shape)
    const last = applyFusedOne(
      gatherOp,
      [applyFusedOne(scatterOp, [places, ids!, order], attributes), ids!],
      attributes,
    )
    const nothing = source!.zerosLike()
    return [
      applyFusedOne(scatterOp, [g!, ids!, nothing], attributes),
      undefined,
      last.equal(order).where(applyFusedOne(gatherOp, [g!, ids!], attributes), 0),
    ]
  },
}

const checkIds = (operation: string, { dtype }: Tensor): void => {
  if (dtype !== "i32" && dtype !== "u32") throw new ShapeError(operation, `indices must be i32 or u32, not ${dtype}`)
}

/** `axis` of `x` from 0 on. Indices have as many axes as x, and none but this one is longer than x's. */
const alignedAxis = (operation: string, x: Tensor, axis: number, ids: Tensor): number => {
  const at = axisOf(operation, x.shape, axis)
  checkIds(operation, ids)
  const fits = ids.shape.length === x.shape.length && ids.shape.every((dim, i) => i === at || dim <= x.shape[i]!)
  if (!fits)
    throw new ShapeError(operation, `indices ${showShape(ids.shape)} do not fit axis ${axis} of ${showShape(x.shape)}`)
  return at
}

/** The first elements of every axis of `x`, as many as `shape` has; all of `axis`. */
const first = (x: Tensor, shape: Shape, axis?: number): Tensor =>
  x.slice(...shape.map((dim, i): Range => (i === axis ? null : [0, dim])))

/** What is to be written: an element of `x`'s type for each index. */
const valuesFor = (operation: string, x: Tensor, ids: Tensor, source: Tensor | number): Tensor => {
  const type = computeType(x.dtype)
  if (typeof source === "number") return x.gpu.constant(source, type, operation).broadcastTo(ids.shape)
  const fits = source.shape.length === ids.shape.length && ids.shape.every((dim, i) => dim <= source.shape[i]!)
  if (!fits || computeType(source.dtype) !== type)
    throw new ShapeError(
      operation,
      `values ${source.dtype} ${showShape(source.shape)} must be ${type} ${showShape(ids.shape)}, as the indices are`,
    )
  return first(source, ids.shape)
}

/** Zeros at the end of every axis that is shorter than that of `shape`. */
const padTo = (x: Tensor, shape: Shape): Tensor => x.pad(x.shape.map((dim, i) => [0, shape[i]! - dim] as const))

/**
 * x[…, ids[…, k, …], …], in the shape of `ids` (i32 or u32), whose other axes are at most as long as x's: PyTorch's
 * `gather`. An index that is none reads 0.
 */
export const gather = (x: Tensor, axis: number, ids: Tensor): Tensor => {
  const at = alignedAxis("gather", x, axis, ids)
  return applyFusedOne(gatherOp, [first(x, ids.shape, at), ids], { axis: at, aligned: true })
}

/** The slices of `axis` that `ids` (i32 or u32, any shape) names, in its shape. */
export const indexSelect = (x: Tensor, axis: number, ids: Tensor): Tensor => {
  const at = axisOf("indexSelect", x.shape, axis)
  checkIds("indexSelect", ids)
  const rows = applyFusedOne(gatherOp, [x, ids.reshape([ids.size])], { axis: at, aligned: false })
  return rows.reshape(x.shape.toSpliced(at, 1, ...ids.shape))
}

/** `x` with source[…, k, …] (or a number) added at […, ids[…, k, …], …], in the order of k; PyTorch's `scatter_add`. */
export const scatterAdd = (x: Tensor, axis: number, ids: Tensor, source: Tensor | number): Tensor => {
  const at = alignedAxis("scatterAdd", x, axis, ids)
  const values = valuesFor("scatterAdd", x, ids, source)
  const sum = applyFusedOne(scatterSumOp, [values, ids], { axis: at, aligned: true, length: x.shape[at]! })
  return x.add(padTo(sum, x.shape))
}

/**
 * `x` with source[…, k, …] (or a number) in place of its element […, ids[…, k, …], …]; of several for one place the last
 * stays. PyTorch's `scatter`.
 */
export const scatter = (x: Tensor, axis: number, ids: Tensor, source: Tensor | number): Tensor => {
  const at = alignedAxis("scatter", x, axis, ids)
  const values = valuesFor("scatter", x, ids, source)
  const part = first(x, ids.shape, at)
  const written = applyFusedOne(scatterOp, [part, ids, x.dtype === "bool" ? values.cast("bool") : values], {
    axis: at,
    aligned: true,
  })
  if (part === x) return written
  const reached = padTo(x.gpu.constant(1).broadcastTo(part.shape), x.shape)
  return reached.where(padTo(written, x.shape), x).cast(written.dtype)
}
