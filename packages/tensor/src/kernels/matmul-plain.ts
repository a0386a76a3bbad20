import { gridFor, perItem, type Kernel } from "../program/kernel.ts"
import { finish, operands, sizes, sizesOf, start, type MatmulLaunch, type Problem } from "./matmul-problem.ts"

/** Row and column strides of A(m,k) and B(k,n), in elements. */
export const strides = ({ layout, M, N, K }: Problem): readonly number[] => {
  const [am, ak] = layout === "tn" ? [1, M] : [K, 1]
  const [bk, bn] = layout === "nt" ? [1, K] : [N, 1]
  return [am, ak, bk, bn]
}
export const strideFields = { am: "u32", ak: "u32", bk: "u32", bn: "u32" } as const

/** One invocation per output: any shape, any device. What the other kernels are held to. */
export const plainMatmul = (problem: Problem): MatmulLaunch => {
  const { epilogue, M, N, batch } = problem
  const items = (batch?.count ?? 1) * M * N
  const kernel: Kernel = {
    name: `matmul ${epilogue}: plain`,
    params: { ...sizes, ...strideFields, items: "u32" },
    buffers: operands(epilogue, { a: "f32", b: "f32", out: "f32" }),
    body: () => `${perItem(64, "p.items")}
  let n = i % p.N; let m = (i / p.N) % p.M; let product = i / (p.N * p.M);
  let atA = product * p.aStep + m * p.am; let atB = product * p.bStep + n * p.bn;
  var acc = ${start(epilogue, "i", "0.0")};
  for (var k = 0u; k < p.K; k++) { acc = fma(a[atA + k * p.ak], b[atB + k * p.bk], acc); }
  ${finish(epilogue, "i", "acc")}
}`,
  }
  return { kernel, params: [...sizesOf(problem), ...strides(problem), items], grid: gridFor(items, 64) }
}
