import { perItem, placement } from "../../program/kernel.ts"
import type { Parts } from "./exponentials.ts"
import { heldBlock, type RowForm } from "./form.ts"
import { blockOf, type RowKernel, type RowText } from "./kernel.ts"

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

/** Units, of one element or four, in a block. */
export const unitsPerBlock = (kernel: RowKernel, { vector }: RowForm): number => blockOf(kernel) / (vector ? 4 : 1)

const declare = (values: Parts["values"]): string =>
  values.map(({ name, start }) => `var ${name} = ${start};`).join(" ")

const atPlace = ({ value }: RowKernel): string => `let at = base + k; ${value === undefined ? "" : `let v = ${value};`}`

/** What forms share that read a row again in every step. */
const readsAgain = (kernel: RowKernel, form: RowForm): Pick<Writer, "throughBlock"> => ({
  throughBlock: (statements) => `for (var k = block; k < min(block + ${unitsPerBlock(kernel, form)}u, units); k++) {
      ${atPlace(kernel)} ${statements}
    }`,
})

/** One invocation does all blocks of a row. */
const blocksAlone = (kernel: RowKernel, form: RowForm): Pick<Writer, "throughBlock" | "inBlocks"> => ({
  ...readsAgain(kernel, form),
  inBlocks: ({ values, inBlock, join }) => `${declare(values)}
  for (var block = 0u; block < units; block += ${unitsPerBlock(kernel, form)}u) {
    ${inBlock}
    ${join((name) => `part_${name}`)}
  }`,
})

const invocation = (kernel: RowKernel, form: RowForm): Writer => ({
  ...blocksAlone(kernel, form),
  entry: `${perItem(form.threads, "p.rows")}
  let row = i;`,
  each: (_, statements, column = "") =>
    `for (var k = 0u; k < units; k++) { ${atPlace(kernel)} ${column} ${statements} }`,
  once: (statements) => statements,
})

/** Each lane folds a row; all of them map one row after the other, so that what belongs to a column is computed once. */
const lane = (kernel: RowKernel, form: RowForm): Writer => ({
  ...blocksAlone(kernel, form),
  entry: `
@compute @workgroup_size(${form.threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let firstRow = (group.y * groups.x + group.x) * ${form.threads}u;
  let rows = min(${form.threads}u, p.rows - firstRow);
  let row = min(firstRow + lane, p.rows - 1u);`,
  each: (uses, statements, column = "") => `for (var first = 0u; first < units; first += ${form.threads}u) {
    let k = min(first + lane, units - 1u);
    ${column}
    for (var r = 0u; r < rows; r++) {
      ${uses.map((name) => `let own_${name} = subgroupShuffle(${name}, r);`).join(" ")}
      if (first + lane < units) {
        let row = firstRow + r; let base = row * units; ${atPlace(kernel)}
        ${uses.map((name) => `let ${name} = own_${name};`).join(" ")}
        ${statements}
      }
    }
  }`,
  once: (statements) => `if (firstRow + lane < p.rows) { ${statements} }`,
})

const rowOfGroup = `let row = group.y * groups.x + group.x;
  if (row >= p.rows) { return; }`

/** Workgroup memory in which every invocation leaves its part of each value. */
const sharedParts = (shared: string[], { values }: Parts, threads: number): string => {
  for (const { name } of values) shared.push(`var<workgroup> parts_${name}: array<f32, ${threads}>;`)
  return values.map(({ name }) => `parts_${name}[own] = part_${name};`).join(" ")
}

/** Each invocation folds a block of its own; then all of them fold the blocks in order. */
const workgroup = (kernel: RowKernel, form: RowForm, shared: string[]): Writer => {
  const { threads } = form
  const units = unitsPerBlock(kernel, form)
  return {
    ...readsAgain(kernel, form),
    entry: `
@compute @workgroup_size(${threads})
fn main(${placement}) {
  let own = local.x;
  ${rowOfGroup}`,
    inBlocks: (parts) => `${declare(parts.values)}
  for (var first = 0u; first < units; first += ${units * threads}u) {
    let block = first + own * ${units}u;
    ${parts.inBlock}
    ${sharedParts(shared, parts, threads)}
    workgroupBarrier();
    for (var i = 0u; i < min(${threads}u, (units - first + ${units - 1}u) / ${units}u); i++) {
      ${parts.join((name) => `parts_${name}[i]`)}
    }
    workgroupBarrier();
  }`,
    each: (_, statements, column = "") =>
      `for (var k = own; k < units; k += ${threads}u) { ${atPlace(kernel)} ${column} ${statements} }`,
    once: (statements) => `if (own == 0u) { ${statements} }`,
  }
}

/** Each invocation holds a block of its own in registers, from the first fold to the last map. */
const holders = (kernel: RowKernel, form: RowForm, shared: string[]): Writer => {
  const { threads, lanes = 0, whole = false } = form
  const held = Array.from({ length: heldBlock / 4 }, (_, unit) => unit)
  const alone = threads === lanes
  const throughHeld = (statements: string): string =>
    held
      .map(
        (unit) => `${whole ? "" : `if (block + ${unit}u < units) `}{
    let k = block + ${unit}u; let at = base + k; let v = v${unit}; ${statements}
  }`,
      )
      .join("\n  ")
  return {
    entry: `
@compute @workgroup_size(${threads})
fn main(${placement}${lanes > 0 ? ", @builtin(subgroup_invocation_id) lane: u32" : ""}) {
  let own = ${alone ? "lane" : "local.x"};
  ${rowOfGroup}`,
    before: `let block = own * ${held.length}u;
  ${held
    .map((unit) => {
      const k = whole ? `block + ${unit}u` : `min(block + ${unit}u, units - 1u)`
      return `var v${unit}: T; { let at = base + ${k}; v${unit} = ${kernel.value}; }`
    })
    .join("\n  ")}`,
    throughBlock: throughHeld,
    inBlocks: (parts, anyOrder = false) => {
      const { values, inBlock, join } = parts
      const leave = alone ? "" : `${sharedParts(shared, parts, threads)} workgroupBarrier();`
      const joined = (): string => {
        if (lanes === 0) return `for (var i = 0u; i < ${threads}u; i++) { ${join((name) => `parts_${name}[i]`)} }`
        const loads = values.map(({ name }) =>
          alone ? `let some_${name} = part_${name};` : `let some_${name} = parts_${name}[i + lane];`,
        )
        const steps = anyOrder
          ? [join((name) => `some_${name}`)]
          : Array.from({ length: lanes }, (_, l) => join((name) => `subgroupShuffle(some_${name}, ${l}u)`))
        return `for (var i = 0u; i < ${threads}u; i += ${lanes}u) { ${loads.join(" ")} ${steps.join(" ")} }
  ${anyOrder ? acrossLanes(lanes, join) : ""}`
      }
      return `${declare(values)}
  { ${inBlock} ${leave} ${joined()} }`
    },
    each: (_, statements, column = "") => throughHeld(`${column} ${statements}`),
    once: (statements) => `if (own == 0u) { ${statements} }`,
  }
}

/** Joins what the lanes of a subgroup have, in the order of a tree, so that all of them have the whole. */
const acrossLanes = (lanes: number, join: Parts["join"]): string => {
  const steps: string[] = []
  for (let distance = lanes / 2; distance >= 1; distance /= 2)
    steps.push(join((name) => `subgroupShuffleXor(${name}, ${distance}u)`))
  return steps.join(" ")
}

/** `shared` collects declarations of workgroup memory. */
export const writers: Readonly<Record<RowForm["by"], (kernel: RowKernel, form: RowForm, shared: string[]) => Writer>> =
  { invocation, lane, workgroup, holders }
