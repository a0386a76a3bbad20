import type { Tensor } from "../graph/tensor.ts"

/** a − b · ⌊a / b⌋ of integers, which divide towards zero. */
export const integerRemainder = (a: Tensor, b: Tensor): Tensor => {
  const rest = a.sub(a.div(b).mul(b))
  if (a.dtype !== "i32") return rest
  const misses = rest.notEqual(0).and(rest.less(0).notEqual(b.less(0)))
  return rest.add(misses.cast("i32").mul(b))
}
