import type { ComputeType } from "../../dtype.ts"
import type { BufferSpec } from "../../program/kernel.ts"

/**
 * Kernels that fold and map the rows of a matrix. Every fold has one order, whatever form does it: blocks of 64 elements in
 * order, then the blocks; or blocks of 32, then eight of them at a time, then those groups. So a row has the same bits alone
 * and among others, on one invocation or on many.
 */
export interface RowKernel {
  readonly name: string
  /** Elements of a block; by default 64. */
  readonly block?: 32 | 64
  /**
   * WGSL of what every fold and map reads at the place `at`: to them it is `v`. Where a row is held in registers, which wants
   * blocks of 32 and folds alone, it is read once; elsewhere each of them reads it again.
   */
  readonly value?: string
  /** Parameters after `rows` and `width`. */
  readonly params?: Readonly<Record<string, ComputeType>>
  /** Buffers; of type `T` where they are read like the rows: element by element or, where rows allow it, four at a time. */
  readonly buffers: readonly BufferSpec[]
  readonly declarations?: string
  /** What happens to one row: folds and maps, in order. */
  readonly body: (row: RowText) => string
}

export const blockOf = ({ block = 64 }: RowKernel): number => block

/** Blocks that are joined before what they give is joined with that of others: as many as lavapipe's subgroups have lanes. */
export const blocksOfGroup = (kernel: RowKernel): 8 | undefined => (kernel.block === 32 ? 8 : undefined)

/** A running value of a fold. */
export interface Fold {
  readonly name: string
  /** What an empty row gives; by default 0. Any value for which `combine` does nothing. */
  readonly start?: string
  /** The value after one more element: `of("v")` is the element's component of the local `v`. */
  readonly next: (value: string, of: (value: string) => string) => string
  /** The value of two parts; by default their sum. */
  readonly combine?: (a: string, b: string) => string
  /** Any order gives the same bits, as for a maximum: `next` is `combine` with the element, and nothing goes one by one. */
  readonly anyOrder?: true
}

/** The largest value of the expression `of(value)`. */
export const largest = (name: string, value: string): Fold => ({
  name,
  start: "lowest",
  next: (top, of) => `max(${top}, ${of(value)})`,
  combine: (a, b) => `max(${a}, ${b})`,
  anyOrder: true,
})

/**
 * WGSL of the steps of a row kernel. Their text may use `row`; inside loops also `k` (a column, or four) and `at` (its place
 * in a matrix); `T` is the type of what lies there, `lowest` the least number.
 */
export interface RowText {
  /**
   * Declares `top`, the largest of the elements that `element` gives at a place in a matrix, `total` = Σ exp(element − top)
   * and, if asked, `energy` = Σ exp(element − top) · (element − top), in one walk. Not for kernels with a `value`.
   */
  readonly exponentials: (element: (at: string) => string, options?: { readonly energy?: boolean }) => string
  /**
   * Declares `center`, the mean of the elements that `element` gives at a place in a matrix, and `squares` =
   * Σ (element − center)², in one walk. Not for kernels with a `value`.
   */
  readonly moments: (element: (at: string) => string) => string
  /** Declares the results of folds that go through the row together. `prepare` computes what they read. */
  readonly fold: (folds: readonly Fold[], prepare?: string) => string
  /**
   * Does something for every element, with the values of the row that `uses` names. `column` declares what depends on `k`
   * alone: rows that are mapped together share it.
   */
  readonly each: (uses: readonly string[], statements: string, column?: string) => string
  /** Does something once for the row. */
  readonly once: (statements: string) => string
  /** One element of the row, of a buffer of type `T`. */
  readonly element: (buffer: string, column: string) => string
}
