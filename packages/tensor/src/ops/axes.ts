import { showShape, type Shape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"

/** One axis or several; negative ones count from the last. */
export type Axes = number | readonly number[]

/** Refuses what is no shape: sizes are whole numbers from 0 on. */
export const checkShape = (operation: string, shape: Shape): void => {
  if (!Array.isArray(shape) || shape.some((dim) => !Number.isSafeInteger(dim) || dim < 0))
    throw new ShapeError(operation, `a shape is a list of whole numbers from 0 on, not ${JSON.stringify(shape)}`)
}

/** `axis` of `shape` as a number from 0 on, or a `ShapeError`. */
export const axisOf = (operation: string, shape: Shape, axis: number): number => {
  const positive = axis < 0 ? axis + shape.length : axis
  if (!(positive in shape)) throw new ShapeError(operation, `${axis} is not an axis of ${showShape(shape)}`)
  return positive
}

/** `axes` of `shape` (all of them by default), each once, ascending. */
export const axesOf = (operation: string, shape: Shape, axes?: Axes): readonly number[] => {
  if (axes === undefined) return shape.map((_, axis) => axis)
  const list = (typeof axes === "number" ? [axes] : axes).map((axis) => axisOf(operation, shape, axis))
  const sorted = [...new Set(list)].sort((a, b) => a - b)
  if (sorted.length !== list.length) throw new ShapeError(operation, `axes [${list.join(", ")}] name one twice`)
  return sorted
}

/** Shape of the result when `shapes` are broadcast together, NumPy's rules. */
export const broadcastShapes = (operation: string, shapes: readonly Shape[]): Shape => {
  const rank = Math.max(...shapes.map((shape) => shape.length))
  return Array.from({ length: rank }, (_, axis) => {
    const dims = shapes.map((shape) => shape[axis - rank + shape.length] ?? 1)
    const dim = dims.find((d) => d !== 1) ?? 1
    if (dims.some((d) => d !== 1 && d !== dim))
      throw new ShapeError(operation, `shapes ${shapes.map(showShape).join(" and ")} do not broadcast`)
    return dim
  })
}

/** Elements before, along and after `axis`. */
export const splitAt = (shape: Shape, axis: number) => {
  const product = (dims: Shape) => dims.reduce((a, b) => a * b, 1)
  return { outer: product(shape.slice(0, axis)), length: shape[axis]!, inner: product(shape.slice(axis + 1)) }
}
