import { blocksOfGroup, type RowKernel } from "./kernel.ts"

/** What one invocation computes of a row's block, and how that joins what the blocks before it gave. */
export interface Parts {
  /** Values of the row, and what an empty row gives. */
  readonly values: readonly { readonly name: string; readonly start: string }[]
  /** WGSL that declares `part_` values of the block that starts at the unit `block`. */
  readonly inBlock: string
  /** WGSL that takes them, or their copies, into the values, or into others of the same kind. */
  readonly join: (part: (name: string) => string, into?: (name: string) => string) => string
}

export const declare = (values: Parts["values"], as = (name: string): string => name): string =>
  values.map(({ name, start }) => `var ${as(name)} = ${start};`).join(" ")

/** Values of a group of blocks. */
export const ofGroup = (name: string): string => `group_${name}`

/**
 * Steps `i` from 0 to `count` by `step`, with a block in each, and joins what `part` of it gives in the kernel's order.
 * `before` comes first in each step.
 */
export const joinInOrder = (
  kernel: RowKernel,
  { values, join }: Parts,
  {
    i,
    count,
    step = 1,
    part,
    before = "",
  }: {
    readonly i: string
    readonly count: string
    readonly step?: number
    readonly part: (name: string) => string
    readonly before?: string
  },
): string => {
  const blocks = blocksOfGroup(kernel)
  const walk = (from: string, to: string, into?: (name: string) => string) =>
    `for (var ${i} = ${from}; ${i} < ${to}; ${i} += ${step}u) { ${before} ${join(part, into)} }`
  if (blocks === undefined) return walk("0u", count)
  const length = blocks * step
  return `for (var start = 0u; start < ${count}; start += ${length}u) {
    ${declare(values, ofGroup)}
    ${walk("start", `min(start + ${length}u, ${count})`, ofGroup)}
    ${join(ofGroup)}
  }`
}

/** Workgroup memory for `count` parts of each value. */
export const declareParts = (shared: string[], { values }: Parts, count: number): void => {
  for (const { name } of values) shared.push(`var<workgroup> parts_${name}: array<f32, ${count}>;`)
}

/** Workgroup memory in which every invocation leaves its part of each value. */
export const sharedParts = (shared: string[], parts: Parts, threads: number): string => {
  declareParts(shared, parts, threads)
  return parts.values.map(({ name }) => `parts_${name}[own] = part_${name};`).join(" ")
}
