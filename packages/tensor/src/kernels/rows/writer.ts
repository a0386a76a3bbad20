import type { Parts } from "./exponentials.ts"
import type { RowText } from "./kernel.ts"

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

export const declare = (values: Parts["values"]): string =>
  values.map(({ name, start }) => `var ${name} = ${start};`).join(" ")

export const rowOfGroup = `let row = group.y * groups.x + group.x;
  if (row >= p.rows) { return; }`

/** Workgroup memory in which every invocation leaves its part of each value. */
export const sharedParts = (shared: string[], { values }: Parts, threads: number): string => {
  for (const { name } of values) shared.push(`var<workgroup> parts_${name}: array<f32, ${threads}>;`)
  return values.map(({ name }) => `parts_${name}[own] = part_${name};`).join(" ")
}
