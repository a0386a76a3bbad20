import type { DeviceTraits } from "../graph/fused-op.ts"
import { gridFor, perItem, reads, writes, type BufferSpec, type Grid, type Kernel } from "../program/kernel.ts"

/**
 * Kernels of the matrix product. However the work is shared out, every output element is one accumulator to which
 * `fma(a, b, acc)` is applied for ascending k: all variants give the same bits at any shape.
 *
 *  nn: A[M,K] · B[K,N]    nt: A[M,K] · B[N,K]ᵀ    tn: A[K,M]ᵀ · B[K,N]
 */
export type Layout = "nn" | "nt" | "tn"

/** What becomes of the accumulator: stored, stored on top of another matrix, or started from the output's old value. */
export type Epilogue = "store" | "residual" | "accumulate"

export interface MatmulLaunch {
  readonly kernel: Kernel
  readonly params: readonly number[]
  readonly grid: Grid
}

export interface Problem {
  readonly layout: Layout
  readonly epilogue: Epilogue
  readonly M: number
  readonly N: number
  readonly K: number
}

/** The kernel for a problem on a device. Only speed depends on the choice. */
export const matmulLaunch = (problem: Problem, device: DeviceTraits): MatmulLaunch => {
  const { layout, M, N, K } = problem
  const vector = N % 4 === 0 && (layout === "tn" ? M % 4 === 0 : K % 4 === 0)
  const lanes = device.subgroupSize
  if (device.isSoftware && vector && (lanes === 4 || lanes === 8)) return subgroupMatmul(problem, lanes)
  if (!device.isSoftware && M > 8) return tiledMatmul(problem)
  return plainMatmul(problem)
}

const sizes = { M: "u32", N: "u32", K: "u32" } as const

const operands = (epilogue: Epilogue, types: { a: string; b: string; out: string }): readonly BufferSpec[] => [
  reads("a", types.a),
  reads("b", types.b),
  ...(epilogue === "residual" ? [reads("residual", types.out)] : []),
  writes("out", types.out),
]

const range = (count: number): readonly number[] => Array.from({ length: count }, (_, i) => i)

const start = (epilogue: Epilogue, index: string, zero: string): string => (epilogue === "accumulate" ? `out[${index}]` : zero)
const finish = (epilogue: Epilogue, index: string, acc: string): string =>
  `out[${index}] = ${epilogue === "residual" ? `${acc} + residual[${index}]` : acc};`

/**
 * One subgroup makes `rows` × 4·`lanes` outputs without workgroup memory: each lane owns four columns, A travels
 * between lanes by broadcast. The form that software Vulkan drivers run fastest, since a load costs them as much as
 * dozens of multiplications.
 */
export const subgroupMatmul = (problem: Problem, lanes: number, rows = problem.M > 8 ? 16 : 8): MatmulLaunch => {
  const { layout, epilogue, M, N, K } = problem
  const perLane = rows / lanes
  const components = ["x", "y", "z", "w"]
  const quads = rows / 4
  const loadA = range(perLane).map((i) =>
    layout === "tn"
      ? `let q${i} = ${i * lanes}u + lane; let k${i} = k * 4u + q${i} / ${quads}u;
    let a${i} = select(vec4f(), a[min(k${i}, p.K - 1u) * M4 + min(y / 4u + q${i} % ${quads}u, M4 - 1u)], k${i} < p.K);`
      : `let a${i} = a[min(y + ${i * lanes}u + lane, p.M - 1u) * K4 + k];`,
  )
  const loadB =
    layout === "nt"
      ? [
          ...range(4).map((j) => `let t${j} = b[(x * 4u + ${j}u) * K4 + k];`),
          ...components.map((c, kk) => `let b${kk} = vec4f(${range(4).map((j) => `t${j}.${c}`).join(", ")});`),
        ]
      : range(4).map((kk) => `let b${kk} = b[min(k * 4u + ${kk}u, p.K - 1u) * N4 + x];`)
  const multiply =
    layout === "tn"
      ? range(4).flatMap((kk) =>
          range(quads).map((quad) => {
            const q = kk * quads + quad
            const fmas = components.map((c, e) => {
              const acc = `c${quad * 4 + e}`
              return `${acc} = fma(vec4f(s.${c}), b${kk}, ${acc});`
            })
            return `{ let s = subgroupBroadcast(a${Math.floor(q / lanes)}, ${q % lanes}u); ${fmas.join(" ")} }`
          }),
        )
      : range(rows).map((i) => {
          const fmas = components.map((c, kk) => `c${i} = fma(vec4f(s.${c}), b${kk}, c${i});`)
          return `{ let s = subgroupBroadcast(a${Math.floor(i / lanes)}, ${i % lanes}u); ${fmas.join(" ")} }`
        })
  const lines = (parts: readonly string[]) => parts.join("\n    ")
  const kernel: Kernel = {
    name: `matmul ${layout} ${epilogue}: subgroup of ${lanes}, ${rows} rows`,
    params: sizes,
    buffers: operands(epilogue, { a: "vec4f", b: "vec4f", out: "vec4f" }),
    subgroups: true,
    body: () => `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let M4 = p.M / 4u; let N4 = p.N / 4u; let K4 = p.K / 4u;
  let column = group.x * ${lanes}u + lane;
  let x = min(column, N4 - 1u);
  let y = group.y * ${rows}u;
  ${lines(range(rows).map((i) => `var c${i} = ${start(epilogue, `min(y + ${i}u, p.M - 1u) * N4 + x`, "vec4f()")};`))}
  for (var k = 0u; k < (p.K + 3u) / 4u; k++) {
    ${lines(loadA)}
    ${lines(loadB)}
    ${lines(multiply)}
  }
  if (column < N4) {
    ${lines(range(rows).map((i) => `if (y + ${i}u < p.M) { ${finish(epilogue, `(y + ${i}u) * N4 + column`, `c${i}`)} }`))}
  }
}`,
  }
  return { kernel, params: [M, N, K], grid: [Math.ceil(N / (4 * lanes)), Math.ceil(M / rows)] }
}

/** Row and column strides of A(m,k) and B(k,n), in elements. */
const strides = ({ layout, M, N, K }: Problem): readonly number[] => {
  const [am, ak] = layout === "tn" ? [1, M] : [K, 1]
  const [bk, bn] = layout === "nt" ? [1, K] : [N, 1]
  return [am, ak, bk, bn]
}
const strideFields = { am: "u32", ak: "u32", bk: "u32", bn: "u32" } as const

/** One invocation per output: any shape, any device. */
export const plainMatmul = (problem: Problem): MatmulLaunch => {
  const { epilogue, M, N, K } = problem
  const kernel: Kernel = {
    name: `matmul ${epilogue}: plain`,
    params: { ...sizes, ...strideFields },
    buffers: operands(epilogue, { a: "f32", b: "f32", out: "f32" }),
    body: () => `${perItem(64, "p.M * p.N")}
  let m = i / p.N; let n = i % p.N;
  var acc = ${start(epilogue, "i", "0.0")};
  for (var k = 0u; k < p.K; k++) { acc = fma(a[m * p.am + k * p.ak], b[k * p.bk + n * p.bn], acc); }
  ${finish(epilogue, "i", "acc")}
}`,
  }
  return { kernel, params: [M, N, K, ...strides(problem)], grid: gridFor(M * N, 64) }
}

/** 64 × 64 outputs by 256 invocations, operands staged in workgroup memory: the form for GPUs that have it fast. */
export const tiledMatmul = (problem: Problem): MatmulLaunch => {
  const { layout, epilogue, M, N, K } = problem
  const tileK = 16
  // Consecutive invocations read consecutive addresses: along k where a row of the operand runs along k.
  const aAlongK = layout !== "tn"
  const bAlongK = layout === "nt"
  const stage = (name: string, alongK: boolean, base: string, limit: string, index: (other: string, k: string) => string) => `
      for (var e = lane; e < ${64 * tileK}u; e += 256u) {
        let kk = ${alongK ? `e % ${tileK}u` : "e / 64u"}; let other = ${alongK ? `e / ${tileK}u` : "e % 64u"};
        let inside = k0 + kk < p.K && ${base} + other < ${limit};
        ${name}[kk * 64u + other] = select(0.0, ${name[0]}[${index(`min(${base} + other, ${limit} - 1u)`, "min(k0 + kk, p.K - 1u)")}], inside);
      }`
  const kernel: Kernel = {
    name: `matmul ${layout} ${epilogue}: tiled`,
    params: { ...sizes, ...strideFields },
    buffers: operands(epilogue, { a: "f32", b: "f32", out: "f32" }),
    body: () => `
var<workgroup> aTile: array<f32, ${64 * tileK}>;
var<workgroup> bTile: array<f32, ${64 * tileK}>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let y0 = group.y * 64u; let x0 = group.x * 64u;
  let y = (lane / 16u) * 4u; let x = (lane % 16u) * 4u;
  var acc: array<vec4f, 4>;
  ${
    epilogue === "accumulate"
      ? `for (var r = 0u; r < 4u; r++) { for (var c = 0u; c < 4u; c++) {
    acc[r][c] = out[min(y0 + y + r, p.M - 1u) * p.N + min(x0 + x + c, p.N - 1u)];
  } }`
      : ""
  }
  for (var k0 = 0u; k0 < p.K; k0 += ${tileK}u) {
    ${stage("aTile", aAlongK, "y0", "p.M", (m, k) => `${m} * p.am + ${k} * p.ak`)}
    ${stage("bTile", bAlongK, "x0", "p.N", (n, k) => `${k} * p.bk + ${n} * p.bn`)}
    workgroupBarrier();
    for (var kk = 0u; kk < ${tileK}u; kk++) {
      let row = kk * 64u;
      let bv = vec4f(bTile[row + x], bTile[row + x + 1u], bTile[row + x + 2u], bTile[row + x + 3u]);
      for (var r = 0u; r < 4u; r++) { acc[r] = fma(vec4f(aTile[row + y + r]), bv, acc[r]); }
    }
    workgroupBarrier();
  }
  for (var r = 0u; r < 4u; r++) { for (var c = 0u; c < 4u; c++) {
    let m = y0 + y + r; let n = x0 + x + c;
    if (m < p.M && n < p.N) { ${finish(epilogue, "m * p.N + n", "acc[r][c]")} }
  } }
}`,
  }
  return { kernel, params: [M, N, K, ...strides(problem)], grid: [Math.ceil(N / 64), Math.ceil(M / 64)] }
}
