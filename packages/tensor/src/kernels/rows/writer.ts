import type { RowText } from "./kernel.ts"
import type { Parts } from "./parts.ts"

/** The WGSL of a row kernel in one form. */
export interface Writer {
  /** The start of `fn main`, which declares `row`. */
  readonly entry: string
  /** What comes before the first step, where `units`, the length of the row, and `base`, its place, are known. */
  readonly before?: string
  /** Takes the units of the block that starts at the unit `block` through some statements. */
  readonly throughBlock: (statements: string) => string
  /** Declares the values of all blocks, joined in order. */
  readonly inBlocks: (parts: Parts, anyOrder?: boolean) => string
  readonly each: RowText["each"]
  readonly once: RowText["once"]
}
