import type { Shape } from "../dtype.ts"
import type { Padding, View } from "../graph/node.ts"

/** One axis of an iteration, and how far a step along it moves in the source. */
export interface Axis {
  readonly dim: number
  /** In elements; negative where the source is read backwards. */
  readonly stride: number
  /** Where the axis has elements of the source: at low, low + step, … (`count` of them). Absent: everywhere. */
  readonly guard?: { readonly low: number; readonly count: number; readonly step: number }
}

/** How flat index i of an iteration reaches an element of a contiguous source: axes of size 1 dropped, others merged. */
export interface Access {
  readonly axes: readonly Axis[]
  readonly offset: number
  /** What is read where a guard finds no element. */
  readonly fill: number
}

/** Strides of a contiguous tensor, in elements. */
export const rowMajor = (shape: Shape): readonly number[] => {
  const strides: number[] = []
  let stride = 1
  for (const dim of shape.toReversed()) {
    strides.unshift(stride)
    stride *= dim
  }
  return strides
}

/** Every element in order. */
export const wholeAccess = (size: number): Access => collapse([{ dim: size, stride: 1 }])

/** A contiguous tensor of `from`, broadcast to `to`. */
export const broadcastAccess = (from: Shape, to: Shape): Access => {
  const lead = to.length - from.length
  const strides = rowMajor(from)
  return collapse(
    to.map((dim, axis) => ({ dim, stride: axis < lead || from[axis - lead] === 1 ? 0 : strides[axis - lead]! })),
  )
}

/** A view of a contiguous tensor of shape `from`; `to` is the view's. */
export const viewAccess = (from: Shape, to: Shape, { start, axes }: View): Access => {
  const strides = rowMajor(from)
  return collapse(
    to.map((dim, i) => ({ dim, stride: axes[i] ? strides[axes[i].axis]! * axes[i].step : 0 })),
    start.reduce((sum, index, axis) => sum + index * strides[axis]!, 0),
  )
}

/** A contiguous tensor of shape `from` spread out over `to`. */
export const padAccess = (from: Shape, to: Shape, { low, step, fill }: Padding): Access => {
  const strides = rowMajor(from)
  const axes = to.map((dim, axis): Axis => {
    const own = { dim, stride: strides[axis]! }
    if (low[axis] === 0 && step[axis] === 1 && from[axis] === dim) return own
    return { ...own, guard: { low: low[axis]!, count: from[axis]!, step: step[axis]! } }
  })
  return collapse(axes, 0, fill)
}

/** Merges what is contiguous, so that a plain read has one axis and few index divisions remain. */
const collapse = (axes: readonly Axis[], offset = 0, fill = 0): Access => {
  const merged: Axis[] = []
  for (const axis of axes) {
    if (axis.dim === 1 && !axis.guard) continue
    const last = merged.at(-1)
    if (last && !last.guard && !axis.guard && last.stride === axis.stride * axis.dim)
      merged[merged.length - 1] = { dim: last.dim * axis.dim, stride: axis.stride }
    else merged.push(axis)
  }
  return { axes: merged, offset, fill }
}

export type AccessKind = "same" | "scalar" | "strided"

export const accessKind = ({ axes, offset }: Access): AccessKind => {
  const [axis] = axes
  if (!axis) return "scalar"
  if (axes.length > 1 || axis.guard) return "strided"
  return axis.stride === 0 ? "scalar" : axis.stride === 1 && offset === 0 ? "same" : "strided"
}

/** Whether all of four consecutive indices, the first a multiple of four, read one element. */
export const repeats = ({ axes }: Access): boolean => (axes.at(-1)?.stride ?? 0) === 0

/** Whether four consecutive indices, starting at a multiple of four, are one aligned vec4 or one repeated element. */
export const vectorizable = (access: Access): boolean => {
  if (accessKind(access) !== "strided") return true
  const last = access.axes.at(-1)!
  if (last.dim % 4 !== 0 || last.guard) return false
  const aligned = access.offset % 4 === 0 && access.axes.slice(0, -1).every(({ stride }) => stride % 4 === 0)
  return last.stride === 0 || (last.stride === 1 && aligned)
}
