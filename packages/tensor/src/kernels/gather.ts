import { computeType, sameShape, showShape, type ComputeType, type Shape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Spec } from "../graph/node.ts"
import type { Tensor } from "../graph/tensor.ts"
import { axisOf, splitAt } from "../ops/axes.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"

interface Attributes {
  readonly axis: number
  /** Indices have a place for every element of the result; otherwise they are a list for the whole axis. */
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

/** Refuses indices that do not fit: i32, one for each element of `target` with another size along the axis, or a list. */
const checkIndices = (operation: string, x: Shape, ids: Spec, { axis, aligned }: Attributes): void => {
  if (ids.dtype !== "i32") throw new ShapeError(operation, `indices must be i32, not ${ids.dtype}`)
  const fits = aligned
    ? ids.shape.length === x.length && sameShape(ids.shape.toSpliced(axis, 1), x.toSpliced(axis, 1))
    : ids.shape.length === 1
  if (!fits)
    throw new ShapeError(operation, `indices ${showShape(ids.shape)} do not fit axis ${axis} of ${showShape(x)}`)
}

const gatherOp: FusedOp<Attributes> = {
  name: "gather",
  infer: ([x, ids], attributes) => {
    checkIndices("gather", x!.shape, ids!, attributes)
    const { axis, aligned } = attributes
    return [{ shape: x!.shape.with(axis, ids!.shape[aligned ? axis : 0]!), dtype: x!.dtype }]
  },
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
  infer: ([source, ids], attributes) => {
    const { axis, aligned, length } = attributes
    checkIndices("scatterAdd", source!.shape, ids!, attributes)
    if (ids!.shape[aligned ? axis : 0] !== source!.shape[axis])
      throw new ShapeError("scatterAdd", `indices ${showShape(ids!.shape)} do not fit ${showShape(source!.shape)}`)
    return [{ shape: source!.shape.with(axis, length), dtype: computeType(source!.dtype) }]
  },
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
  infer: ([x, ids, source], attributes) => {
    const { axis, aligned } = attributes
    checkIndices("scatter", x!.shape, ids!, attributes)
    const wanted = x!.shape.with(axis, ids!.shape[aligned ? axis : 0]!)
    if (!sameShape(source!.shape, wanted) || source!.dtype !== x!.dtype)
      throw new ShapeError(
        "scatter",
        `values ${source!.dtype} ${showShape(source!.shape)} must be ${x!.dtype} ${showShape(wanted)}`,
      )
    return [x!]
  },
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

/** x[…, ids[…, k, …], …]: `ids` (i32) is shaped like the result, which is shaped like x but along `axis`. */
export const gather = (x: Tensor, axis: number, ids: Tensor): Tensor =>
  applyFusedOne(gatherOp, [x, ids], { axis: axisOf("gather", x.shape, axis), aligned: true })

/** The slices of `axis` that `ids` (i32, any shape) names, in its shape. */
export const indexSelect = (x: Tensor, axis: number, ids: Tensor): Tensor => {
  const at = axisOf("indexSelect", x.shape, axis)
  const rows = applyFusedOne(gatherOp, [x, ids.reshape([ids.size])], { axis: at, aligned: false })
  return rows.reshape(x.shape.toSpliced(at, 1, ...ids.shape))
}

/** `x` with source[…, k, …] added at […, ids[…, k, …], …], in the order of k. */
export const scatterAdd = (x: Tensor, axis: number, ids: Tensor, source: Tensor): Tensor => {
  const at = axisOf("scatterAdd", x.shape, axis)
  const sum = applyFusedOne(scatterSumOp, [source, ids], { axis: at, aligned: true, length: x.shape[at]! })
  if (!sameShape(sum.shape, x.shape))
    throw new ShapeError(
      "scatterAdd",
      `values ${showShape(source.shape)} do not fit ${showShape(x.shape)} along axis ${at}`,
    )
  return x.add(sum)
}

/** `x` with source[…, k, …] in place of its element […, ids[…, k, …], …]; of several for one place the last stays. */
export const scatter = (x: Tensor, axis: number, ids: Tensor, source: Tensor): Tensor =>
  applyFusedOne(scatterOp, [x, ids, source], { axis: axisOf("scatter", x.shape, axis), aligned: true })
