import { showShape } from "../../dtype.ts"
import { ShapeError } from "../../errors.ts"
import { applyFused } from "../../graph/apply.ts"
import type { FusedOp } from "../../graph/fused-op.ts"
import type { Tensor } from "../../graph/tensor.ts"
import { glu, gluGradient, type Activation } from "../glu.ts"
import { launchMatmul } from "./launch.ts"
import { linear, matmul } from "./matmul.ts"

const gluLinearOp: FusedOp<{ readonly activation: Activation }> = {
  name: "gluLinear",
  readsPacked: [0, 1],
  infer: ([x, weight]) => {
    const [rows, inner] = x!.shape
    const [columns] = weight!.shape
    if (x!.shape.length !== 2 || weight!.shape.length !== 2 || weight!.shape[1] !== inner || columns! % 8 !== 0)
      throw new ShapeError(
        "gluLinear",
        `x ${showShape(x!.shape)} and weight ${showShape(weight!.shape)} must be [N, K] and [2F, K], F a multiple of 4`,
      )
    return [
      { shape: [rows!, columns! / 2], dtype: "f32" },
      { shape: [rows!, columns!], dtype: "f32" },
    ]
  },
  lower: (emit, [x, weight], [gated, pairs], { activation }) => {
    const [M, K] = x!.spec.shape as [number, number]
    const [N] = weight!.spec.shape as [number]
    const problem = { layout: "nt", epilogue: "store", M, N, K, gate: activation } as const
    launchMatmul(emit, problem, { a: x!, b: weight!, out: pairs!, gated: gated! })
  },
  backward: ({ inputs: [x, weight], outputs: [, pairs], grads: [g], attributes: { activation }, needs }) => {
    const gradient = gluGradient(pairs!, g!, activation)
    return [
      needs[0] ? matmul(gradient, weight!) : undefined,
      needs[1] ? matmul(gradient, x!, { transposeA: true }) : undefined,
    ]
  },
}

/**
 * glu(x · weightᵀ): the product and what its first half lets through of its second in one kernel, with the bits of both
 * apart. x: [N, K]; weight: [2F, K], gates then values; result: [N, F].
 */
export const gluLinear = (x: Tensor, weight: Tensor, activation: Activation): Tensor =>
  weight.shape[0]! % 8 === 0
    ? applyFused(gluLinearOp, [x, weight], { activation })[0]!
    : glu(linear(x, weight), activation)
