import { computeType, sameShape, showShape } from "../../dtype.ts"
import { ShapeError } from "../../errors.ts"
import type { FusedOp } from "../../graph/fused-op.ts"
import { applyFusedOne } from "../../graph/apply.ts"
import type { Tensor } from "../../graph/tensor.ts"
import { asRows, overRows } from "../../ops/over-rows.ts"
import { launchMatmul, type Epilogue, type Layout } from "./launch.ts"

export interface MatmulOptions {
  /** Read the left operand transposed: it is [K, M]. */
  readonly transposeA?: boolean
  /** Read the right operand transposed: it is [N, K]. */
  readonly transposeB?: boolean
}

interface Attributes {
  readonly layout: Layout
  readonly epilogue: Epilogue
}

/** (M, N, K) of a product, or a ShapeError. */
const dimensions = (layout: Layout, a: readonly number[], b: readonly number[]) => {
  const [M, K] = layout === "tn" ? [a[1]!, a[0]!] : [a[0]!, a[1]!]
  const [N, inner] = layout === "nt" ? [b[0]!, b[1]!] : [b[1]!, b[0]!]
  if (a.length !== 2 || b.length !== 2 || K !== inner)
    throw new ShapeError("matmul", `${showShape(a)} and ${showShape(b)} do not fit as ${layout.toUpperCase()}`)
  return { M, N, K }
}

const product = (layout: Layout, a: Tensor, b: Tensor): Tensor =>
  applyFusedOne(matmulOp, [a, b], { layout, epilogue: "store" })

export const matmulOp: FusedOp<Attributes> = {
  name: "matmul",
  readsPacked: [0, 1],
  infer: ([a, b, other], { layout }) => {
    const { M, N } = dimensions(layout, a!.shape, b!.shape)
    if ([a, b, other].some((operand) => operand && computeType(operand.dtype) !== "f32"))
      throw new ShapeError("matmul", `needs floating-point operands, got ${a!.dtype} and ${b!.dtype}`)
    if (other && (other.shape[0] !== M || other.shape[1] !== N))
      throw new ShapeError("matmul", `residual ${showShape(other.shape)} must be ${showShape([M, N])}`)
    return [{ shape: [M, N], dtype: "f32" }]
  },
  lower: (emit, inputs, [out], { layout, epilogue }) => {
    const [a, b, residual] = inputs
    const problem = { layout, epilogue, ...dimensions(layout, a!.spec.shape, b!.spec.shape) }
    launchMatmul(emit, problem, { a: a!, b: b!, residual: epilogue === "residual" ? residual : undefined, out: out! })
  },
  adding: ({ layout, epilogue }) => (epilogue === "store" ? { layout, epilogue: "residual" } : undefined),
  accumulating: ({ layout, epilogue }) => (epilogue === "store" ? { layout, epilogue: "accumulate" } : undefined),
  backward: ({ inputs: [a, b], grads: [g], attributes: { layout, epilogue }, needs }) => {
    const want = (index: number, gradient: () => Tensor) => (needs[index] ? gradient() : undefined)
    const others = epilogue === "residual" ? [g!] : []
    switch (layout) {
      case "nn":
        return [want(0, () => product("nt", g!, b!)), want(1, () => product("tn", a!, g!)), ...others]
      case "nt":
        return [want(0, () => product("nn", g!, b!)), want(1, () => product("tn", g!, a!)), ...others]
      case "tn":
        return [want(0, () => product("nt", b!, g!)), want(1, () => product("nn", a!, g!)), ...others]
      default:
        return layout satisfies never
    }
  },
}

/** C[M,N] = A · B of two matrices, either of them read transposed. Packed ones (f16, bf16, quantised) are read as stored. */
export const matmul = (
  a: Tensor,
  b: Tensor,
  { transposeA = false, transposeB = false }: MatmulOptions = {},
): Tensor => {
  if (transposeA && transposeB) return product("tn", a, b.transpose())
  return product(transposeA ? "tn" : transposeB ? "nt" : "nn", a, b)
}

export interface LinearOptions {
  /** [M], added to every row. */
  readonly bias?: Tensor
  /** [..., M], added to the result inside the kernel. */
  readonly residual?: Tensor
}

/**
 * y = x · weightᵀ (+ bias) (+ residual). x: [..., K], weight: [M, K] as in `torch.nn.Linear`, result: [..., M]. A weight of f16,
 * bf16, int8 or int4 is read as it is stored, with the bits that the product with `weight.cast("f32")` has.
 */
export const linear = (x: Tensor, weight: Tensor, { bias, residual }: LinearOptions = {}): Tensor => {
  const y = overRows("linear", x, (rows) =>
    residual
      ? applyFusedOne(matmulOp, [rows, weight, asRows("linear", residual)], { layout: "nt", epilogue: "residual" })
      : product("nt", rows, weight),
  )
  if (!bias) return y
  if (!sameShape(bias.shape, [weight.shape[0]!]))
    throw new ShapeError("linear", `bias ${showShape(bias.shape)} must be ${showShape([weight.shape[0]!])}`)
  return y.add(bias)
}
