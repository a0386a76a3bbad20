/** How the operands of a product lie in memory: A[M,K]·B[K,N], A[M,K]·B[N,K]ᵀ or A[K,M]ᵀ·B[K,N]. */
export type Layout = "nn" | "nt" | "tn"

interface Named {
  readonly name: string
  /** Multiplications and additions of one run; 0 where they are not what takes the time. */
  readonly flops: number
  /** How many times faster than the fastest peer we mean to be, on lavapipe. */
  readonly target: number
  /** Runs between two waits for the device: several where one is over before a wait could notice. */
  readonly times: number
}

export interface Matmul extends Named {
  readonly kind: "matmul"
  readonly layout: Layout
  readonly M: number
  readonly N: number
  readonly K: number
}

export interface Rows extends Named {
  readonly kind: "softmax" | "layerNorm"
  readonly rows: number
  readonly columns: number
}

/** x[rows, width] → hidden → width with tanh-GELU, mean squared error, plain SGD: one step, both passes. */
export interface Mlp extends Named {
  readonly kind: "mlp"
  readonly rows: number
  readonly width: number
  readonly hidden: number
}

/** A pre-norm transformer block with causal attention and a tanh-GELU MLP of four times its width; norms have no weights. */
export interface Block extends Named {
  readonly kind: "block"
  readonly pass: "forward" | "forward and backward"
  readonly batch: number
  readonly tokens: number
  readonly width: number
  readonly heads: number
}

export type Workload = Matmul | Rows | Mlp | Block

export const epsilon = 1e-5
export const learningRate = 0.1

const matmul = (layout: Layout, M: number, K: number, N: number, target: number): Matmul => ({
  kind: "matmul",
  name: `matmul ${layout.toUpperCase()} ${M}×${K} · ${K}×${N}`,
  flops: 2 * M * N * K,
  target,
  times: M * N * K < 2 ** 25 ? 16 : M * N * K < 2 ** 28 ? 8 : 1,
  layout,
  M,
  N,
  K,
})

const layouts: readonly Layout[] = ["nn", "nt", "tn"]

const rows = (kind: Rows["kind"], count: number, columns: number): Rows => ({
  kind,
  name: `${kind === "softmax" ? "softmax" : "layer norm"} ${count}×${columns}`,
  flops: 0,
  target: 4,
  times: 16,
  rows: count,
  columns,
})

const mlp = (count: number, width: number, hidden: number): Mlp => ({
  kind: "mlp",
  name: `MLP ${count}×${width} → ${hidden} → ${width}, training step`,
  // The gradient of the input is not asked for.
  flops: 5 * 2 * count * width * hidden,
  target: 3,
  times: 1,
  rows: count,
  width,
  hidden,
})

const block = (pass: Block["pass"], batch: number, tokens: number, width: number, heads: number): Block => ({
  kind: "block",
  name: `transformer block B${batch} T${tokens} D${width} H${heads}, ${pass}`,
  flops: (pass === "forward" ? 1 : 3) * 2 * batch * tokens * (12 * width * width + 2 * tokens * width),
  target: pass === "forward" ? 1 : 5,
  times: 1,
  pass,
  batch,
  tokens,
  width,
  heads,
})

export const workloads: readonly Workload[] = [
  ...[256, 512, 1024, 2048].flatMap((size) =>
    layouts.map((layout) => matmul(layout, size, size, size, size === 256 ? 4 : 6)),
  ),
  matmul("nn", 8, 512, 2048, 4),
  rows("softmax", 1024, 1024),
  rows("layerNorm", 1024, 1024),
  mlp(128, 256, 1024),
  block("forward", 4, 64, 256, 8),
  block("forward and backward", 4, 64, 256, 8),
]

/** Uniform numbers in [−½, ½) · scale, the same in every process (xorshift32). */
export const uniform = (count: number, seed: number, scale = 1): Float32Array<ArrayBuffer> => {
  let x = (seed * 2654435761) >>> 0 || 1
  const out = new Float32Array(count)
  for (let i = 0; i < count; i++) {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    out[i] = ((x >>> 0) / 2 ** 32 - 0.5) * scale
  }
  return out
}

/** A tensor on the host. */
export interface Operand {
  readonly data: Float32Array<ArrayBuffer>
  readonly shape: number[]
}

/** Operands of a product as they lie in memory. */
export const matmulData = ({ layout, M, N, K }: Matmul) => ({
  a: { data: uniform(M * K, 1), shape: layout === "tn" ? [K, M] : [M, K] },
  b: { data: uniform(K * N, 2), shape: layout === "nt" ? [N, K] : [K, N] },
})

export const rowsData = ({ rows: count, columns }: Rows) => ({
  data: uniform(count * columns, 1, 4),
  shape: [count, columns],
})

export const mlpData = ({ rows: count, width, hidden }: Mlp) => ({
  x: { data: uniform(count * width, 3), shape: [count, width] },
  y: { data: uniform(count * width, 4), shape: [count, width] },
  w1: { data: uniform(width * hidden, 5, 0.1), shape: [width, hidden] },
  w2: { data: uniform(hidden * width, 6, 0.1), shape: [hidden, width] },
})

export const blockWeights = ["qkv", "o", "up", "down"] as const

export const blockData = ({ batch, tokens, width }: Block) => ({
  x: { data: uniform(batch * tokens * width, 7, 0.1), shape: [batch * tokens, width] },
  qkv: { data: uniform(width * 3 * width, 8, 0.1), shape: [width, 3 * width] },
  o: { data: uniform(width * width, 9, 0.1), shape: [width, width] },
  up: { data: uniform(4 * width * width, 10, 0.1), shape: [width, 4 * width] },
  down: { data: uniform(4 * width * width, 11, 0.1), shape: [4 * width, width] },
})

/** 0 where a key may be seen and −10⁹ where it lies in the future, for libraries that add a mask to the scores. */
export const causalMask = (tokens: number): Float32Array<ArrayBuffer> =>
  Float32Array.from({ length: tokens * tokens }, (_, i) => (i % tokens > Math.floor(i / tokens) ? -1e9 : 0))
