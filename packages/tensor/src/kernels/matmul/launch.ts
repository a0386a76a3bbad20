import type { Emitter, Operand } from "../../graph/fused-op.ts"
import type { Kernel } from "../../program/kernel.ts"
import { matmulCheck } from "./check.ts"
import { chooseMatmul, panelsFirst } from "./choice.ts"
import { layInPanels } from "./panels.ts"
import type { Problem } from "./problem.ts"

export type { Epilogue, Layout, MatmulLaunch, Problem } from "./problem.ts"
export { plainMatmul } from "./plain.ts"
export { subgroupMatmul, type SubgroupTile } from "./subgroup.ts"
export { tiledMatmul, type WorkgroupTile } from "./tiled.ts"

export interface MatmulOperands {
  readonly a: Operand
  readonly b: Operand
  /** For the epilogue of that name. */
  readonly residual?: Operand | undefined
  readonly out: Operand
  /** For problems with a gate. */
  readonly gated?: Operand | undefined
}

/**
 * Emits a product with the kernel that suits it and the device. However the work is shared out, every output element is
 * one accumulator to which `fma(a, b, acc)` is applied for ascending k: all kernels give the same bits at any shape, only
 * speed depends on the choice.
 */
export const launchMatmul = (
  emit: Emitter,
  product: Omit<Problem, "stored">,
  { a, b, residual, out, gated }: MatmulOperands,
): void => {
  const choice = emit.device.matmul
  const whole: Problem = { ...product, stored: { a: a.spec.dtype, b: b.spec.dtype } }
  const panels = panelsFirst(whole, choice)
  const candidate = panels?.candidate ?? chooseMatmul(whole, choice).candidate
  const { problem, ...operands } = panels ? layInPanels(emit, whole, candidate, { a, b }) : { problem: whole, a, b }
  const { kernel: unchecked, params, grid } = candidate.launch(problem)
  const kernel: Kernel = { ...unchecked, check: () => matmulCheck(candidate, problem) }
  const flops = 2 * (whole.batch?.count ?? 1) * whole.M * whole.N * whole.K
  const others = [...(residual ? [residual] : []), out, ...(gated ? [gated] : [])]
  emit.launch(kernel, [operands.a, operands.b, ...others], params, grid, flops)
}
