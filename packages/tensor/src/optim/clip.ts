import type { Tensor } from "../graph/tensor.ts"

export interface Clipped {
  /** L2 norm of all gradients together before clipping, []. */
  readonly norm: Tensor
  readonly grads: readonly Tensor[]
}

/** `grads` times min(1, maxNorm / norm), PyTorch's `clip_grad_norm_`. Optimisers clip by themselves: see `update`. */
export const clipGradNorm = (grads: readonly Tensor[], maxNorm: number): Clipped => {
  const norm = grads
    .map((gradient) => gradient.square().sum())
    .reduce((total, square) => total.add(square))
    .sqrt()
  const factor = norm.add(1e-6).reciprocal().mul(maxNorm).minimum(1)
  return { norm, grads: grads.map((gradient) => gradient.mul(factor)) }
}
