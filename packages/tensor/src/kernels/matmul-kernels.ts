import type { Emitter, Operand } from "../graph/fused-op.ts"
import { itemsGrid, itemParams, eachItem, reads, writes, type Kernel } from "../program/kernel.ts"
import { chooseMatmul, turnsFirst } from "./matmul-choice.ts"
import { matmulCheck } from "./matmul-check.ts"
import type { Problem } from "./matmul-problem.ts"

export type { Epilogue, Layout, MatmulLaunch, Problem } from "./matmul-problem.ts"
export { plainMatmul } from "./matmul-plain.ts"
export { subgroupMatmul, type SubgroupTile } from "./matmul-subgroup.ts"
export { tiledMatmul, type WorkgroupTile } from "./matmul-tiled.ts"

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
  const problem: Problem = { ...product, stored: { a: a.spec.dtype, b: b.spec.dtype } }
  if (turnsFirst(problem, choice)) {
    const turned = transposed(emit, b, problem.N, problem.K)
    return launchMatmul(emit, { ...problem, layout: "nn" }, { a, b: turned, residual, out, gated })
  }
  const { candidate } = chooseMatmul(problem, choice)
  const { kernel: unchecked, params, grid } = candidate.launch(problem)
  const kernel: Kernel = { ...unchecked, check: () => matmulCheck(candidate, problem) }
  const flops = 2 * (problem.batch?.count ?? 1) * problem.M * problem.N * problem.K
  emit.launch(kernel, [a, b, ...(residual ? [residual] : []), out, ...(gated ? [gated] : [])], params, grid, flops)
}

/** Each invocation turns a block of 4 × 4. */
const transpose: Kernel = {
  name: "transpose by blocks of 4",
  params: { ...itemParams, rows: "u32", columns: "u32" },
  buffers: [reads("x", "vec4f"), writes("out", "vec4f")],
  body: () =>
    eachItem(`let across = p.columns / 4u;
    let row = i / across; let column = i % across;
    let a = x[(row * 4u) * across + column]; let b = x[(row * 4u + 1u) * across + column];
    let c = x[(row * 4u + 2u) * across + column]; let d = x[(row * 4u + 3u) * across + column];
    let down = p.rows / 4u; let at = column * 4u * down + row;
    out[at] = vec4f(a.x, b.x, c.x, d.x); out[at + down] = vec4f(a.y, b.y, c.y, d.y);
    out[at + 2u * down] = vec4f(a.z, b.z, c.z, d.z); out[at + 3u * down] = vec4f(a.w, b.w, c.w, d.w);`),
}

/** A copy of `x` [rows, columns] as [columns, rows]; both are multiples of 4. */
const transposed = (emit: Emitter, x: Operand, rows: number, columns: number): Operand => {
  const out = emit.scratch({ shape: [columns, rows], dtype: "f32" })
  const { params, grid } = itemsGrid((rows / 4) * (columns / 4), emit.device)
  emit.launch(transpose, [x, out], [...params, rows, columns], grid)
  return out
}
