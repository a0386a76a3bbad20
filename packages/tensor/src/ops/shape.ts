import { checkNumber, computeType, isPacked, sameShape, showShape, sizeOf, type Shape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import type { View } from "../graph/node.ts"
import type { Tensor } from "../graph/tensor.ts"
import { concat } from "../kernels/concat.ts"
import { axesOf, axisOf, broadcastShapes, type Axes } from "./axes.ts"

/**
 * What to take along one axis: an index (the axis goes), `[start, stop, step]` as in Python (any of them may be absent or
 * null; negative ones count from the end; a negative step goes backwards), or null for everything.
 */
export type Range = number | null | readonly [start?: number | null, stop?: number | null, step?: number | null]

const view = (x: Tensor, shape: Shape, { start, axes }: View): Tensor =>
  x.derive({ kind: "view", start, axes }, [x], shape, isPacked(x.dtype) ? computeType(x.dtype) : x.dtype)

/** Refuses PyTorch's `x.reshape(2, 3)`, which the types do and plain JavaScript does not. */
const checkList = (operation: string, list: unknown, example: string): void => {
  if (!Array.isArray(list))
    throw new ShapeError(operation, `takes a list, as in ${operation}(${example}), not ${String(list)}`)
}

/** The same elements in row-major order under another shape. One dimension may be −1. */
export const reshape = (x: Tensor, shape: Shape): Tensor => {
  checkList("reshape", shape, "[2, 3]")
  if (shape.indexOf(-1) !== shape.lastIndexOf(-1))
    throw new ShapeError("reshape", `only one dimension of ${showShape(shape)} may be −1: the others determine it`)
  const known = shape.reduce((product, dim) => (dim === -1 ? product : product * dim), 1)
  const full = shape.map((dim) => (dim === -1 ? (known === 0 ? 0 : x.size / known) : dim))
  const fits = sizeOf(full) === x.size && full.every((dim) => Number.isInteger(dim) && dim >= 0)
  if (!fits) throw new ShapeError("reshape", `${showShape(x.shape)} does not fit ${showShape(shape)}`)
  return sameShape(full, x.shape) ? x : x.derive({ kind: "reshape" }, [x], full)
}

export const squeeze = (x: Tensor, axes?: Axes): Tensor => {
  const ones = x.shape.flatMap((dim, axis) => (dim === 1 ? [axis] : []))
  const dropped = axes === undefined ? ones : axesOf("squeeze", x.shape, axes)
  const wrong = dropped.find((axis) => x.shape[axis] !== 1)
  if (wrong !== undefined) throw new ShapeError("squeeze", `axis ${wrong} of ${showShape(x.shape)} is not of size 1`)
  return x.reshape(x.shape.filter((_, axis) => !dropped.includes(axis)))
}

export const unsqueeze = (x: Tensor, axis: number): Tensor =>
  x.reshape(x.shape.toSpliced(axisOf("unsqueeze", [...x.shape, 1], axis), 0, 1))

/** The axes `first` … `last` as one; of a scalar, [1]. */
export const flatten = (x: Tensor, first: number, last: number): Tensor => {
  if (x.shape.length === 0) return x.reshape([1])
  const [from, to] = [axisOf("flatten", x.shape, first), axisOf("flatten", x.shape, last)]
  if (from > to) throw new ShapeError("flatten", `axis ${first} of ${showShape(x.shape)} is behind axis ${last}`)
  return x.reshape(x.shape.toSpliced(from, to - from + 1, sizeOf(x.shape.slice(from, to + 1))))
}

export const broadcastTo = (x: Tensor, shape: Shape): Tensor => {
  checkList("broadcastTo", shape, "[2, 3]")
  if (sameShape(shape, x.shape)) return x
  if (!sameShape(broadcastShapes("broadcastTo", [x.shape, shape]), shape))
    throw new ShapeError("broadcastTo", `${showShape(x.shape)} does not broadcast to ${showShape(shape)}`)
  const lead = shape.length - x.shape.length
  const axes = shape.map((_, i) => (i < lead || x.shape[i - lead] === 1 ? undefined : { axis: i - lead, step: 1 }))
  return view(x, shape, { start: x.shape.map(() => 0), axes })
}

export const transpose = (x: Tensor, axes: readonly number[]): Tensor => {
  checkList("transpose", axes, "[1, 0]")
  const order = axes.map((axis) => axisOf("transpose", x.shape, axis))
  if (new Set(order).size !== x.shape.length || order.length !== x.shape.length)
    throw new ShapeError("transpose", `axes [${axes.join(", ")}] do not permute ${showShape(x.shape)}`)
  if (order.every((axis, i) => axis === i)) return x
  return view(
    x,
    order.map((axis) => x.shape[axis]!),
    { start: x.shape.map(() => 0), axes: order.map((axis) => ({ axis, step: 1 })) },
  )
}

/** First index, number of elements and step of a range along an axis of size `dim`: Python's `slice.indices`. */
const resolve = (dim: number, [start, stop, step]: Exclude<Range, number | null>) => {
  const by = step ?? 1
  if (by === 0 || !Number.isInteger(by)) throw new ShapeError("slice", `a step must be a whole number but 0, not ${by}`)
  const [low, high] = by > 0 ? [0, dim] : [-1, dim - 1]
  const fraction = [start, stop].find(
    (index) => typeof index === "number" && !Number.isInteger(index) && Math.abs(index) !== Infinity,
  )
  if (fraction !== undefined) throw new ShapeError("slice", `${fraction} is not a place between elements`)
  const bound = (index: number | null | undefined, absent: number) =>
    index === null || index === undefined
      ? absent
      : Math.min(high, Math.max(low, index < 0 ? Math.max(index + dim, low) : index))
  const first = bound(start, by > 0 ? low : high)
  const last = bound(stop, by > 0 ? high : low)
  return { start: first, count: Math.max(0, Math.ceil((last - first) / by)), step: by }
}

export const slice = (x: Tensor, ranges: readonly Range[]): Tensor => {
  if (ranges.length > x.shape.length)
    throw new ShapeError("slice", `${ranges.length} ranges are too many for ${showShape(x.shape)}`)
  const shape: number[] = []
  const axes: { axis: number; step: number }[] = []
  const start = x.shape.map((dim, axis) => {
    const range = ranges[axis] ?? null
    if (typeof range === "number") {
      const index = range < 0 ? range + dim : range
      if (!Number.isInteger(index) || index < 0 || index >= dim)
        throw new ShapeError("slice", `${range} is not an index of axis ${axis} of ${showShape(x.shape)}`)
      return index
    }
    const taken = resolve(dim, range ?? [])
    shape.push(taken.count)
    axes.push({ axis, step: taken.step })
    return taken.count === 0 ? 0 : taken.start
  })
  const everything = sameShape(shape, x.shape) && axes.every(({ step }) => step === 1)
  return everything ? x : view(x, shape, { start, axes })
}

export const flip = (x: Tensor, axes?: Axes): Tensor => {
  const turned = axesOf("flip", x.shape, axes)
  return slice(
    x,
    x.shape.map((_, axis) => (turned.includes(axis) ? [null, null, -1] : null)),
  )
}

/** `pad` with steps: element i of an axis goes to low + i · step of `shape`. */
export const spread = (x: Tensor, shape: Shape, low: readonly number[], step: readonly number[], fill = 0): Tensor =>
  x.derive({ kind: "pad", low, step, fill }, [x], shape, isPacked(x.dtype) ? computeType(x.dtype) : x.dtype)

export const pad = (x: Tensor, widths: readonly (readonly [number, number])[], value: number): Tensor => {
  checkList("pad", widths, "[[1, 1], [0, 2]]")
  const wrong = widths.length !== x.shape.length || widths.flat().some((width) => width < 0 || !Number.isInteger(width))
  if (wrong)
    throw new ShapeError(
      "pad",
      `${JSON.stringify(widths)} is not a pair of widths for each axis of ${showShape(x.shape)}`,
    )
  checkNumber("pad", value, computeType(x.dtype))
  if (widths.flat().every((width) => width === 0)) return x
  return spread(
    x,
    x.shape.map((dim, axis) => widths[axis]![0] + dim + widths[axis]![1]),
    widths.map(([before]) => before),
    widths.map(() => 1),
    x.dtype === "bool" ? Number(value !== 0) : value,
  )
}

/** Parts along `axis`: of the sizes given, or all of one size (the last one smaller if need be). */
export const split = (x: Tensor, sizes: number | readonly number[], axis: number): readonly Tensor[] => {
  const at = axisOf("split", x.shape, axis)
  const dim = x.shape[at]!
  if (typeof sizes === "number" && !(sizes > 0 && Number.isInteger(sizes)))
    throw new ShapeError("split", `parts have a whole number of elements above 0, not ${sizes}`)
  const list =
    typeof sizes === "number"
      ? Array.from({ length: Math.ceil(dim / sizes) }, (_, i) => Math.min(sizes, dim - i * sizes))
      : sizes
  if (list.reduce((a, b) => a + b, 0) !== dim || list.some((size) => !(size >= 0 && Number.isInteger(size))))
    throw new ShapeError("split", `sizes [${list.join(", ")}] do not add up to ${dim}`)
  let end = 0
  return list.map((size) => {
    end += size
    return slice(x, [...Array<null>(at).fill(null), [end - size, end]])
  })
}

/** At most `count` parts of one size along `axis`, the last one smaller if need be: PyTorch's `chunk`. */
export const chunk = (x: Tensor, count: number, axis: number): readonly Tensor[] => {
  const at = axisOf("chunk", x.shape, axis)
  if (!(count > 0 && Number.isInteger(count)))
    throw new ShapeError("chunk", `the number of parts is whole and above 0, not ${count}`)
  return split(x, Math.max(1, Math.ceil(x.shape[at]! / count)), at)
}

/** What lies at each index of `axis`, without that axis. */
export const unbind = (x: Tensor, axis: number): readonly Tensor[] => {
  const at = axisOf("unbind", x.shape, axis)
  return Array.from({ length: x.shape[at]! }, (_, i) => slice(x, [...Array<null>(at).fill(null), i]))
}

/** Moves element i of `axis` to i + `by`; what leaves at one end comes back at the other. */
export const roll = (x: Tensor, by: number, axis: number): Tensor => {
  const at = axisOf("roll", x.shape, axis)
  if (!Number.isInteger(by)) throw new ShapeError("roll", `moves by a whole number of elements, not ${by}`)
  const dim = x.shape[at]!
  const moved = dim === 0 ? 0 : ((by % dim) + dim) % dim
  return moved === 0 ? x : concat(split(x, [dim - moved, moved], at).toReversed(), at)
}

const checkCount = (operation: string, ...counts: readonly number[]): void => {
  const wrong = counts.find((count) => !Number.isInteger(count) || count < 0)
  if (wrong !== undefined) throw new ShapeError(operation, `nothing can be repeated ${wrong} times`)
}

/** The whole tensor `counts[axis]` times along each axis (NumPy's `tile`, PyTorch's `repeat`). */
export const repeat = (x: Tensor, counts: readonly number[]): Tensor => {
  checkList("repeat", counts, "[2, 1]")
  const lead = counts.length - x.shape.length
  if (lead < 0) throw new ShapeError("repeat", `needs a count for each axis of ${showShape(x.shape)}`)
  checkCount("repeat", ...counts)
  const own = [...Array<number>(lead).fill(1), ...x.shape]
  return x
    .reshape(own.flatMap((dim) => [1, dim]))
    .broadcastTo(own.flatMap((dim, axis) => [counts[axis]!, dim]))
    .reshape(own.map((dim, axis) => counts[axis]! * dim))
}

/** Each element `count` times in a row along `axis` (NumPy's `repeat`, PyTorch's `repeat_interleave`). */
export const repeatInterleave = (x: Tensor, count: number, axis: number): Tensor => {
  const at = axisOf("repeatInterleave", x.shape, axis) + 1
  checkCount("repeatInterleave", count)
  return x
    .unsqueeze(at)
    .broadcastTo(x.shape.toSpliced(at, 0, count))
    .reshape(x.shape.with(at - 1, x.shape[at - 1]! * count))
}

/** Elements (i, i + k) of the last two axes. */
export const diagonal = (x: Tensor, k: number): Tensor => {
  const [rows, columns] = [x.shape.at(-2), x.shape.at(-1)]
  if (rows === undefined || columns === undefined) throw new ShapeError("diagonal", "needs two axes")
  const count = Math.max(0, Math.min(rows + Math.min(k, 0), columns - Math.max(k, 0)))
  const first = k < 0 ? -k * columns : k
  const lead = x.shape.slice(0, -2)
  const every = lead.map(() => null)
  const end = count === 0 ? first : first + (count - 1) * (columns + 1) + 1
  return slice(x.reshape([...lead, rows * columns]), [...every, [first, end, columns + 1]])
}

/** Keeps what lies on or below (`lower`) or above the k-th diagonal of the last two axes; 0 elsewhere. */
export const triangle = (x: Tensor, lower: boolean, k: number): Tensor => {
  const [rows, columns] = [x.shape.at(-2), x.shape.at(-1)]
  if (rows === undefined || columns === undefined) throw new ShapeError(lower ? "tril" : "triu", "needs two axes")
  const row = x.gpu.arange(rows, { start: k, dtype: "i32" }).unsqueeze(1)
  const column = x.gpu.arange(columns, { dtype: "i32" })
  return (lower ? row.greaterEqual(column) : row.lessEqual(column)).where(x, 0)
}
