import type { DType } from "../../dtype.ts"
import type { Activation } from "../glu.ts"
import { reads, writes, type BufferSpec, type Grid, type Kernel } from "../../program/kernel.ts"
import { reader, type Reader, type ReadWidth } from "../../program/reader.ts"

/** nn: A[M,K] · B[K,N]    nt: A[M,K] · B[N,K]ᵀ    tn: A[K,M]ᵀ · B[K,N] */
export type Layout = "nn" | "nt" | "tn"

/** What becomes of the accumulator: stored, stored on top of another matrix, or started from the output's old value. */
export type Epilogue = "store" | "residual" | "accumulate"

/** Several products of one shape in one launch, their matrices one after the other. */
export interface Batch {
  readonly count: number
  /** All products read the same A or B. */
  readonly sharedA: boolean
  readonly sharedB: boolean
}

/** One matrix product, or a batch of them. */
export interface Problem {
  /** In `panels`, operands were laid out for one tile beforehand: see panels.ts. */
  readonly layout: Layout | "panels"
  readonly epilogue: Epilogue
  readonly M: number
  readonly N: number
  readonly K: number
  readonly batch?: Batch
  /**
   * The first half of the columns are gates: besides the product [M, N], activation(gate) · other half is stored, [M, N/2].
   * Needs the epilogue `store`, N a multiple of 8 and no batch.
   */
  readonly gate?: Activation
  /** How the operands are stored, if not as f32. Kernels multiply what they stand for. */
  readonly stored?: { readonly a: DType; readonly b: DType }
}

export interface MatmulLaunch {
  readonly kernel: Kernel
  readonly params: readonly number[]
  readonly grid: Grid
}

/** Parameters that all kernels share: sizes, and the elements from a product's A or B to the next one's. */
export const sizes = { M: "u32", N: "u32", K: "u32", aStep: "u32", bStep: "u32" } as const

export const sizesOf = ({ M, N, K, batch }: Problem): readonly number[] => [
  M,
  N,
  K,
  batch && !batch.sharedA ? M * K : 0,
  batch && !batch.sharedB ? N * K : 0,
]

/** Workgroups, each of which makes a tile of one product's outputs. */
export const gridOf = ({ M, N, batch }: Problem, rows: number, columns: number): Grid =>
  [Math.ceil(N / columns), Math.ceil(M / rows), batch?.count ?? 1].map((count) => Math.max(1, count)) as unknown as Grid

/** How a kernel reads its operands. */
export interface Readers {
  readonly a: Reader
  readonly b: Reader
}

/** Readers that take so many elements of A and B at a time. */
export const readersOf = ({ stored }: Problem, a: ReadWidth, b: ReadWidth): Readers => ({
  a: reader("a", stored?.a ?? "f32", a),
  b: reader("b", stored?.b ?? "f32", b),
})

/** Buffers in binding order; `type` is the element type of outputs and what is added to them. */
export const operands = ({ epilogue, gate }: Problem, { a, b }: Readers, type: string): readonly BufferSpec[] => [
  a.buffer,
  b.buffer,
  ...(epilogue === "residual" ? [reads("residual", type)] : []),
  writes("out", type),
  ...(gate ? [writes("gated", type)] : []),
]

/** What a problem reads, where that is not f32, and what it does with its accumulators: for the names of kernels. */
export const endOf = ({ epilogue, gate, stored }: Problem): string => {
  const end = gate ? `gated by ${gate}` : epilogue
  return stored && (stored.a !== "f32" || stored.b !== "f32") ? `${stored.a} · ${stored.b} ${end}` : end
}

/** What the accumulator of `out[index]` starts from. */
export const start = (epilogue: Epilogue, index: string, zero: string): string =>
  epilogue === "accumulate" ? `out[${index}]` : zero

/** Stores an accumulator. */
export const finish = (epilogue: Epilogue, index: string, acc: string): string =>
  `out[${index}] = ${epilogue === "residual" ? `${acc} + residual[${index}]` : acc};`

export const range = (count: number): readonly number[] => Array.from({ length: count }, (_, i) => i)

export const components = ["x", "y", "z", "w"] as const
