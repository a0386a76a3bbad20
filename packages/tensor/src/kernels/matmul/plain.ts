import { gridFor, perItem, type Kernel } from "../../program/kernel.ts"
import { activationWgsl, type Activation } from "../glu.ts"
import {
  endOf,
  finish,
  operands,
  readersOf,
  sizes,
  sizesOf,
  start,
  type Epilogue,
  type MatmulLaunch,
  type Problem,
  type Readers,
} from "./problem.ts"

type Strides = readonly [am: number, ak: number, bk: number, bn: number]

/** Row and column strides of A(m,k) and B(k,n), in elements. */
export const strides = ({ layout, M, N, K }: Problem): Strides => [
  ...(layout === "tn" ? ([1, M] as const) : ([K, 1] as const)),
  ...(layout === "nt" ? ([1, K] as const) : ([N, 1] as const)),
]
export const strideFields = { am: "u32", ak: "u32", bk: "u32", bn: "u32" } as const

/** One invocation per output: any shape, any device. What the other kernels are held to. */
export const plainMatmul = (problem: Problem): MatmulLaunch => {
  const { gate, M, N, batch } = problem
  const items = (batch?.count ?? 1) * M * (gate ? N / 2 : N)
  const readers = readersOf(problem, 1, 1)
  const kernel: Kernel = {
    name: `matmul ${endOf(problem)}: plain`,
    params: { ...sizes, ...strideFields, items: "u32" },
    buffers: operands(problem, readers, "f32"),
    body: () => (gate ? gatedBody(gate, readers) : body(problem.epilogue, readers)),
  }
  return { kernel, params: [...sizesOf(problem), ...strides(problem), items], grid: gridFor(items, 64) }
}

const body = (
  epilogue: Epilogue,
  { a, b }: Readers,
): string => `${a.declaration}${b.declaration}${perItem(64, "p.items")}
  let n = i % p.N; let m = (i / p.N) % p.M; let product = i / (p.N * p.M);
  let atA = product * p.aStep + m * p.am; let atB = product * p.bStep + n * p.bn;
  var acc = ${start(epilogue, "i", "0.0")};
  for (var k = 0u; k < p.K; k++) { acc = fma(${a.at("atA + k * p.ak")}, ${b.at("atB + k * p.bk")}, acc); }
  ${finish(epilogue, "i", "acc")}
}`

const gatedBody = (gate: Activation, { a, b }: Readers): string => `${activationWgsl(gate, "f32")}
${a.declaration}${b.declaration}${perItem(64, "p.items")}
  let half = p.N / 2u;
  let n = i % half; let m = i / half;
  let other = half * p.bn;
  var first = 0.0; var second = 0.0;
  for (var k = 0u; k < p.K; k++) {
    let left = ${a.at("m * p.am + k * p.ak")}; let at = n * p.bn + k * p.bk;
    first = fma(left, ${b.at("at")}, first); second = fma(left, ${b.at("at + other")}, second);
  }
  out[m * p.N + n] = first; out[m * p.N + half + n] = second;
  gated[i] = act(first) * second;
}`
