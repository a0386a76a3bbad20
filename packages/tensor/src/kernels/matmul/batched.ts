import { computeType, showShape } from "../../dtype.ts"
import { ShapeError } from "../../errors.ts"
import { applyFusedOne } from "../../graph/apply.ts"
import type { FusedOp } from "../../graph/fused-op.ts"
import type { Tensor } from "../../graph/tensor.ts"
import { launchMatmul, type Layout, type Problem } from "./launch.ts"

const dimensions = (layout: Layout, a: readonly number[], b: readonly number[]) => {
  const [M, K] = layout === "tn" ? [a[2]!, a[1]!] : [a[1]!, a[2]!]
  const [N, inner] = layout === "nt" ? [b[1]!, b[2]!] : [b[2]!, b[1]!]
  const batch = Math.max(a[0]!, b[0]!)
  const together = [a[0]!, b[0]!].every((own) => own === batch || own === 1)
  if (K !== inner || !together)
    throw new ShapeError("matmul", `${showShape(a)} and ${showShape(b)} do not fit as ${layout.toUpperCase()}`)
  return { batch: a[0] === 0 || b[0] === 0 ? 0 : batch, M, N, K }
}

const batchedOp: FusedOp<{ readonly layout: Layout }> = {
  name: "matmul",
  readsPacked: [0, 1],
  infer: ([a, b], { layout }) => {
    if (computeType(a!.dtype) !== "f32" || computeType(b!.dtype) !== "f32")
      throw new ShapeError("matmul", `needs floating-point operands, got ${a!.dtype} and ${b!.dtype}`)
    const { batch, M, N } = dimensions(layout, a!.shape, b!.shape)
    return [{ shape: [batch, M, N], dtype: "f32" }]
  },
  lower: (emit, [a, b], [out], { layout }) => {
    const { batch, M, N, K } = dimensions(layout, a!.spec.shape, b!.spec.shape)
    const [sharedA, sharedB] = [a!, b!].map((operand) => operand.spec.shape[0] === 1) as [boolean, boolean]
    const problem: Problem = { layout, epilogue: "store", M, N, K, batch: { count: batch, sharedA, sharedB } }
    launchMatmul(emit, problem, { a: a!, b: b!, out: out! })
  },
  backward: ({ inputs: [a, b], grads: [g], attributes: { layout }, needs }) => {
    // A shared operand gathers the gradient of every product.
    const want = (index: 0 | 1, operand: Tensor, gradient: () => Tensor) => {
      if (!needs[index]) return undefined
      return operand.shape[0] === 1 ? gradient().sum(0, { keepDims: true }) : gradient()
    }
    switch (layout) {
      case "nn":
        return [want(0, a!, () => batchedMatmul("nt", g!, b!)), want(1, b!, () => batchedMatmul("tn", a!, g!))]
      case "nt":
        return [want(0, a!, () => batchedMatmul("nn", g!, b!)), want(1, b!, () => batchedMatmul("tn", g!, a!))]
      case "tn":
        return [want(0, a!, () => batchedMatmul("nt", b!, g!)), want(1, b!, () => batchedMatmul("nn", a!, g!))]
      default:
        return layout satisfies never
    }
  },
}

/**
 * Products of matrices side by side: [B, …] · [B, …], either batch of size 1 for all. Each element is one fma chain over
 * ascending k, as that of a single product.
 */
export const batchedMatmul = (layout: Layout, a: Tensor, b: Tensor): Tensor =>
  applyFusedOne(batchedOp, [a, b], { layout })
