import type { DeviceTraits } from "../graph/fused-op.ts"
import { chooseMatmul } from "./matmul-choice.ts"
import type { MatmulLaunch, Problem } from "./matmul-problem.ts"

export type { Epilogue, Layout, MatmulLaunch, Problem } from "./matmul-problem.ts"
export { plainMatmul } from "./matmul-plain.ts"
export { subgroupMatmul, type SubgroupTile } from "./matmul-subgroup.ts"
export { tiledMatmul, type WorkgroupTile } from "./matmul-tiled.ts"

/**
 * The kernel for a problem on a device. However the work is shared out, every output element is one accumulator to which
 * `fma(a, b, acc)` is applied for ascending k: all kernels give the same bits at any shape, only speed depends on the choice.
 */
export const matmulLaunch = (problem: Problem, { matmul }: DeviceTraits): MatmulLaunch => chooseMatmul(problem, matmul)
