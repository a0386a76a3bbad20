import { showShape, sizeOf } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import type { Tensor } from "../graph/tensor.ts"

/** The axes of `x` before the last one as a single one: [..., D] to [N, D]. */
export const asRows = (operation: string, x: Tensor): Tensor => {
  if (x.shape.length === 2) return x
  if (x.shape.length === 0) throw new ShapeError(operation, `needs a last axis, got a scalar ${showShape(x.shape)}`)
  return x.reshape([sizeOf(x.shape.slice(0, -1)), x.shape.at(-1)!])
}

/** Runs a function of rows [N, D] over the last axis of `x` [..., D], whatever axes are before it. */
export const overRows = (operation: string, x: Tensor, fn: (rows: Tensor) => Tensor): Tensor => {
  const y = fn(asRows(operation, x))
  return x.shape.length === 2 ? y : y.reshape([...x.shape.slice(0, -1), ...y.shape.slice(1)])
}
