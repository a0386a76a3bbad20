import { placement } from "../../program/kernel.ts"
import type { Parts } from "./exponentials.ts"
import { heldBlock, type RowForm } from "./form.ts"
import type { RowKernel } from "./kernel.ts"
import { declare, rowOfGroup, sharedParts, type Writer } from "./writer.ts"

/** Units of four elements that an invocation holds. */
const units = heldBlock / 4
const held = Array.from({ length: units }, (_, unit) => unit)

/** Where a unit lies in the tile: eight neighbours, read by eight invocations at once, are spread over all banks. */
const swizzleWgsl = `fn inTile(k: u32) -> u32 { return (k & ~7u) | ((k ^ (k >> 3u)) & 7u); }`

/**
 * Each invocation holds as many elements as a block has in registers, from the first fold to the last map. On a CPU that is
 * its block. On a GPU neighbours hold neighbouring units, so that they load and store together, and find their blocks in
 * workgroup memory.
 */
export const holders = (kernel: RowKernel, form: RowForm, shared: string[]): Writer => {
  const { threads, lanes = 0, whole = false } = form
  const alone = threads === lanes
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
  return {
    entry: `
@compute @workgroup_size(${threads})
fn main(${placement}${ofBlock ? ", @builtin(subgroup_invocation_id) lane: u32" : ""}) {
  let own = ${alone ? "lane" : "local.x"};
  ${rowOfGroup}`,
    before: `let block = own * ${units}u;
  ${load.join("\n  ")}
  ${share}`,
    throughBlock: ofBlock ? throughHeld : throughTile,
    inBlocks: (parts, anyOrder = false) => {
      const leave = alone ? "" : `${sharedParts(shared, parts, threads)} workgroupBarrier();`
      const joined = ofBlock ? throughSubgroups(parts, { threads, lanes, anyOrder }) : throughMemory(parts, threads)
      return `${declare(parts.values)}
  { ${parts.inBlock} ${leave} ${joined} }`
    },
    each: (_, statements, column = "") => throughHeld(`${column} ${statements}`),
    once: (statements) => `if (own == 0u) { ${statements} }`,
  }
}

const throughMemory = ({ join }: Parts, threads: number): string =>
  `for (var i = 0u; i < ${threads}u; i++) { ${join((name) => `parts_${name}[i]`)} }`

/** A lane loads one part of each subgroup's; the others get it by shuffles. Of a subgroup alone, lanes have them already. */
const throughSubgroups = (
  { values, join }: Parts,
  { threads, lanes, anyOrder }: { readonly threads: number; readonly lanes: number; readonly anyOrder: boolean },
): string => {
  const loads = values.map(
    ({ name }) => `let some_${name} = ${threads === lanes ? `part_${name}` : `parts_${name}[i + lane]`};`,
  )
  const steps = anyOrder
    ? [join((name) => `some_${name}`)]
    : Array.from({ length: lanes }, (_, l) => join((name) => `subgroupShuffle(some_${name}, ${l}u)`))
  return `for (var i = 0u; i < ${threads}u; i += ${lanes}u) { ${loads.join(" ")} ${steps.join(" ")} }
  ${anyOrder ? acrossLanes(lanes, join) : ""}`
}

/** Joins what the lanes of a subgroup have, in the order of a tree, so that all of them have the whole. */
const acrossLanes = (lanes: number, join: Parts["join"]): string => {
  const steps: string[] = []
  for (let distance = lanes / 2; distance >= 1; distance /= 2)
    steps.push(join((name) => `subgroupShuffleXor(${name}, ${distance}u)`))
  return steps.join(" ")
}
