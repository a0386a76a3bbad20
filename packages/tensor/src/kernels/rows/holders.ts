import { placement, placementInSubgroup } from "../../program/kernel.ts"
import { heldBlock, type RowForm } from "./form.ts"
import type { RowKernel } from "./kernel.ts"
import { declare, declareParts, joinInOrder, ofGroup, sharedParts, type Parts } from "./parts.ts"
import type { Writer } from "./writer.ts"

/** Units of four elements that an invocation holds. */
const units = heldBlock / 4
const held = Array.from({ length: units }, (_, unit) => unit)

/** Where a unit lies in the tile: eight neighbours, read by eight invocations at once, are spread over all banks. */
const swizzleWgsl = `fn inTile(k: u32) -> u32 { return (k & ~7u) | ((k ^ (k >> 3u)) & 7u); }`

/**
 * Each invocation holds as many elements as a block has in registers, from the first fold to the last map. On a CPU that is
 * its block. On a GPU neighbours hold neighbouring units, so that they load and store together, and find their blocks in
 * workgroup memory. A workgroup too many does the last row again: were it to return, all that follows would be conditional,
 * and lavapipe would load for every lane what it otherwise loads once.
 */
export const holders = (kernel: RowKernel, form: RowForm, shared: string[]): Writer => {
  const { threads, lanes = 0, whole = false } = form
  const ofBlock = lanes > 0
  const place = (unit: number): string => (ofBlock ? `block + ${unit}u` : `own + ${unit * threads}u`)
  const through = (k: (unit: number) => string, v: (unit: number) => string, statements: string): string =>
    held
      .map((unit) => {
        const guard = whole ? "" : `if (${k(unit)} < units) `
        return `${guard}{ let k = ${k(unit)}; let at = base + k; let v = ${v(unit)}; ${statements} }`
      })
      .join("\n  ")
  const throughHeld = (statements: string) => through(place, (unit) => `v${unit}`, statements)
  const throughTile = (statements: string) =>
    through(
      (unit) => `block + ${unit}u`,
      (unit) => `tile[inTile(block + ${unit}u)]`,
      statements,
    )
  const load = held.map((unit) => {
    const k = whole ? place(unit) : `min(${place(unit)}, units - 1u)`
    return `var v${unit}: T; { let at = base + ${k}; v${unit} = ${kernel.value}; }`
  })
  if (!ofBlock) shared.push(swizzleWgsl, `var<workgroup> tile: array<T, ${threads * units}>;`)
  const share = ofBlock
    ? ""
    : `${held.map((unit) => `tile[inTile(${place(unit)})] = v${unit};`).join(" ")} workgroupBarrier();`
  const throughMemory = (parts: Parts) => `${sharedParts(shared, parts, threads)} workgroupBarrier();
  ${joinInOrder(kernel, parts, { i: "i", count: `${threads}u`, part: (name) => `parts_${name}[i]` })}`
  return {
    entry: `
@compute @workgroup_size(${threads})
fn main(${ofBlock ? placementInSubgroup : placement}) {
  let own = ${ofBlock ? `subgroup * ${lanes}u + lane` : "local.x"};
  let row = min(group.y * groups.x + group.x, p.rows - 1u);`,
    before: `let block = own * ${units}u;
  ${load.join("\n  ")}
  ${share}`,
    throughBlock: ofBlock ? throughHeld : throughTile,
    inBlocks: (parts, anyOrder = false) => {
      const joined = ofBlock ? throughSubgroups(shared, parts, { threads, lanes, anyOrder }) : throughMemory(parts)
      return `${declare(parts.values)}
  { ${parts.inBlock} ${joined} }`
    },
    each: (_, statements, column = "") => throughHeld(`${column} ${statements}`),
    once: (statements) => `if (own == 0u) { ${statements} }`,
  }
}

/** A subgroup has a group of blocks: lanes tell each other through shuffles, subgroups through workgroup memory. */
const throughSubgroups = (
  shared: string[],
  parts: Parts,
  { threads, lanes, anyOrder }: { readonly threads: number; readonly lanes: number; readonly anyOrder: boolean },
): string => {
  const { values, join } = parts
  const groups = threads / lanes
  const each = (count: number, part: (name: string, i: number) => string, into?: (name: string) => string) =>
    Array.from({ length: count }, (_, i) => join((name) => part(name, i), into)).join(" ")
  const inOrder = () => `${declare(values, ofGroup)}
  ${each(lanes, (name, lane) => `subgroupShuffle(part_${name}, ${lane}u)`, ofGroup)}`
  const asTree = () => `${values.map(({ name }) => `var ${ofGroup(name)} = part_${name};`).join(" ")}
  ${each(Math.log2(lanes), (name, step) => `subgroupShuffleXor(${ofGroup(name)}, ${1 << step}u)`, ofGroup)}`
  const group = anyOrder ? asTree() : inOrder()
  if (groups === 1) return `${group} ${join(ofGroup)}`
  declareParts(shared, parts, groups)
  const leave = values.map(({ name }) => `parts_${name}[subgroup] = ${ofGroup(name)};`).join(" ")
  // What a constant names in workgroup memory, lavapipe loads once for all lanes; what a variable does, once for each.
  return `${group}
  if (lane == 0u) { ${leave} } workgroupBarrier();
  ${each(groups, (name, i) => `parts_${name}[${i}u]`)}`
}
