import { sizeOf, type Shape } from "../dtype.ts"

/** How flat index i of an iteration reaches an element: dims and strides, adjacent ones merged, size-1 ones dropped. */
export interface Access {
  readonly dims: readonly number[]
  readonly strides: readonly number[]
}

/** Strides under which a contiguous tensor of `from` is read when broadcast to `to`. */
export const broadcastAccess = (from: Shape, to: Shape): Access => {
  const lead = to.length - from.length
  let stride = sizeOf(from)
  const strides = to.map((_, axis) => {
    if (axis < lead) return 0
    const dim = from[axis - lead]!
    stride /= dim
    return dim === 1 ? 0 : stride
  })
  return collapse(to, strides)
}

/** Merges what is contiguous, so that a plain read has rank ≤ 1 and few index divisions remain. */
export const collapse = (shape: Shape, strides: readonly number[]): Access => {
  const dims: number[] = []
  const steps: number[] = []
  shape.forEach((dim, axis) => {
    if (dim === 1) return
    const last = dims.length - 1
    if (last >= 0 && steps[last] === strides[axis]! * dim) {
      dims[last] = dims[last]! * dim
      steps[last] = strides[axis]!
    } else {
      dims.push(dim)
      steps.push(strides[axis]!)
    }
  })
  return { dims, strides: steps }
}

export type AccessKind = "same" | "scalar" | "strided"

export const accessKind = ({ strides }: Access): AccessKind =>
  strides.length === 0 || (strides.length === 1 && strides[0] === 0)
    ? "scalar"
    : strides.length === 1 && strides[0] === 1
      ? "same"
      : "strided"

/** Whether four consecutive indices, starting at a multiple of four, are one aligned vec4 or one repeated element. */
export const vectorizable = (access: Access): boolean => {
  if (accessKind(access) !== "strided") return true
  const last = access.strides.length - 1
  const stride = access.strides[last]!
  if (access.dims[last]! % 4 !== 0) return false
  return stride === 0 || (stride === 1 && access.strides.slice(0, last).every((step) => step % 4 === 0))
}
