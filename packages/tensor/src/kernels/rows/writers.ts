import { perItem, placement } from "../../program/kernel.ts"
import type { RowForm } from "./form.ts"
import { holders } from "./holders.ts"
import { blockOf, type RowKernel } from "./kernel.ts"
import { declare, joinInOrder, sharedParts } from "./parts.ts"
import type { Writer } from "./writer.ts"

/** Units, of one element or four, in a block. */
export const unitsPerBlock = (kernel: RowKernel, { vector }: RowForm): number => blockOf(kernel) / (vector ? 4 : 1)

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
  inBlocks: (parts) => `${declare(parts.values)}
  ${joinInOrder(kernel, parts, {
    i: "block",
    count: "units",
    step: unitsPerBlock(kernel, form),
    part: (name) => `part_${name}`,
    before: parts.inBlock,
  })}`,
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
  let row = group.y * groups.x + group.x;
  if (row >= p.rows) { return; }`,
    inBlocks: (parts) => `${declare(parts.values)}
  for (var first = 0u; first < units; first += ${units * threads}u) {
    let block = first + own * ${units}u;
    ${parts.inBlock}
    ${sharedParts(shared, parts, threads)}
    workgroupBarrier();
    let blocks = min(${threads}u, (units - first + ${units - 1}u) / ${units}u);
    ${joinInOrder(kernel, parts, { i: "i", count: "blocks", part: (name) => `parts_${name}[i]` })}
    workgroupBarrier();
  }`,
    each: (_, statements, column = "") =>
      `for (var k = own; k < units; k += ${threads}u) { ${atPlace(kernel)} ${column} ${statements} }`,
    once: (statements) => `if (own == 0u) { ${statements} }`,
  }
}

/** `shared` collects declarations of workgroup memory. */
export const writers: Readonly<Record<RowForm["by"], (kernel: RowKernel, form: RowForm, shared: string[]) => Writer>> =
  { invocation, lane, workgroup, holders }
