import { showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"
import { matmulLaunch, type Layout } from "./matmul-kernels.ts"

/** One invocation per output of every product; an operand with a batch stride of 0 is shared. */
const kernel: Kernel = {
  name: "batched matmul",
  params: {
    items: "u32",
    M: "u32",
    N: "u32",
    K: "u32",
    ab: "u32",
    am: "u32",
    ak: "u32",
    bb: "u32",
    bk: "u32",
    bn: "u32",
  },
  buffers: [reads("a"), reads("b"), writes("out")],
  body: () => `${perItem(64, "p.items")}
  let n = i % p.N; let m = (i / p.N) % p.M; let batch = i / (p.N * p.M);
  let atA = batch * p.ab + m * p.am; let atB = batch * p.bb + n * p.bn;
  var acc = 0.0;
  for (var k = 0u; k < p.K; k++) { acc = fma(a[atA + k * p.ak], b[atB + k * p.bk], acc); }
  out[i] = acc;
}`,
}

/** Multiplications from which on a product is worth a launch of its own, with the kernels that share loads. */
const worthALaunch = 2 ** 17

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
  infer: ([a, b], { layout }) => {
    if (a!.dtype !== "f32" || b!.dtype !== "f32")
      throw new ShapeError("matmul", `needs f32 operands, got ${a!.dtype} and ${b!.dtype}`)
    const { batch, M, N } = dimensions(layout, a!.shape, b!.shape)
    return [{ shape: [batch, M, N], dtype: "f32" }]
  },
  lower: (emit, [a, b], [out], { layout }) => {
    const { batch, M, N, K } = dimensions(layout, a!.spec.shape, b!.spec.shape)
    const aligned = [M * K, K * N, M * N].every((size) => size % 64 === 0)
    if (aligned && M * N * K >= worthALaunch) {
      const { kernel: single, params, grid } = matmulLaunch({ layout, epilogue: "store", M, N, K }, emit.device)
      for (let i = 0; i < batch; i++) {
        const operands = [a!, b!, out!].map((operand) => emit.rows(operand, operand.spec.shape[0] === 1 ? 0 : i, 1))
        emit.launch(single, operands, params, grid)
      }
      return
    }
    const items = batch * M * N
    const [am, ak] = layout === "tn" ? [1, M] : [K, 1]
    const [bk, bn] = layout === "nt" ? [1, K] : [N, 1]
    const ab = a!.spec.shape[0] === 1 ? 0 : M * K
    const bb = b!.spec.shape[0] === 1 ? 0 : K * N
    emit.launch(kernel, [a!, b!, out!], [items, M, N, K, ab, am, ak, bb, bk, bn], gridFor(items, 64))
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
