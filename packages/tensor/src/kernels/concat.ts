import { sameShape, showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { axisOf, splitAt } from "../ops/axes.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"

/** Copies [outer, length, inner] to `start` of [outer, total, inner]. Bits are bits: one kernel for every dtype. */
const copy: Kernel = {
  name: "concat: copy",
  params: { items: "u32", block: "u32", start: "u32", total: "u32" },
  buffers: [reads("x", "u32"), writes("out", "u32")],
  body: () => `${perItem(64, "p.items")}
  out[(i / p.block) * p.total + p.start + i % p.block] = x[i];
}`,
}

const concatOp: FusedOp<{ readonly axis: number }> = {
  name: "concat",
  infer: (inputs, { axis }) => {
    const [first] = inputs
    for (const { shape, dtype } of inputs) {
      if (!sameShape(shape.toSpliced(axis, 1), first!.shape.toSpliced(axis, 1)))
        throw new ShapeError(
          "concat",
          `shapes ${showShape(first!.shape)} and ${showShape(shape)} differ beside axis ${axis}`,
        )
      if (dtype !== first!.dtype)
        throw new ShapeError("concat", `${first!.dtype} and ${dtype} do not mix: cast one of them`)
    }
    const total = inputs.reduce((sum, { shape }) => sum + shape[axis]!, 0)
    return [{ shape: first!.shape.with(axis, total), dtype: first!.dtype }]
  },
  lower: (emit, inputs, [out], { axis }) => {
    const { length: total, inner } = splitAt(out!.spec.shape, axis)
    let start = 0
    for (const input of inputs) {
      const { outer, length } = splitAt(input.spec.shape, axis)
      const items = outer * length * inner
      if (items > 0)
        emit.launch(copy, [input, out!], [items, length * inner, start * inner, total * inner], gridFor(items, 64))
      start += length
    }
  },
  backward: ({ inputs, grads: [g], attributes: { axis } }) =>
    g!.split(
      inputs.map(({ shape }) => shape[axis]!),
      axis,
    ),
}

/** The first of a list, which callers without types may have spelt otherwise. */
const firstOf = (operation: string, tensors: readonly Tensor[]): Tensor => {
  if (!Array.isArray(tensors)) throw new ShapeError(operation, `takes a list of tensors: ${operation}([a, b], axis)`)
  const [first] = tensors
  if (!first) throw new ShapeError(operation, "needs at least one tensor")
  return first
}

/** `tensors`, alike in dtype and in every axis but `axis`, one after another along it. */
export const concat = (tensors: readonly Tensor[], axis = 0): Tensor => {
  const first = firstOf("concat", tensors)
  return applyFusedOne(concatOp, tensors, { axis: axisOf("concat", first.shape, axis) })
}

/** `tensors` of one shape side by side along a new axis. */
export const stack = (tensors: readonly Tensor[], axis = 0): Tensor => {
  const { shape, dtype } = firstOf("stack", tensors)
  const other = tensors.find((tensor) => !sameShape(tensor.shape, shape) || tensor.dtype !== dtype)
  if (other)
    throw new ShapeError(
      "stack",
      `${dtype} ${showShape(shape)} and ${other.dtype} ${showShape(other.shape)} are not alike`,
    )
  const place = axisOf("stack", [...shape, 1], axis)
  return concat(
    tensors.map((tensor) => tensor.unsqueeze(place)),
    place,
  )
}
