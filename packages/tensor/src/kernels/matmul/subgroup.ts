import type { Kernel } from "../../program/kernel.ts"
import { widthType, type ReadWidth } from "../../program/reader.ts"
import { activationWgsl } from "../glu.ts"
import {
  components,
  endOf,
  finish,
  gridOf,
  operands,
  range,
  readersOf,
  sizes,
  sizesOf,
  start,
  type Epilogue,
  type MatmulLaunch,
  type Problem,
} from "./problem.ts"
import { loadsOfA, loadsOfB, type Access, type Arrival } from "./subgroup-loads.ts"

/** What one subgroup makes, and how far it walks at a time. */
export interface SubgroupTile {
  /** 1, or a multiple of 4. */
  readonly rows: number
  /** Vectors of four columns per lane. */
  readonly quads: number
  /** Steps along k whose operands are loaded together: 1, 2 or 4. */
  readonly depth: number
  /**
   * Where the accumulators live. A driver that compiles with LLVM keeps everything in registers that it can, and then
   * spills what it is loading: `memory` makes them an array that a loop indexes, which it leaves where it is.
   */
  readonly accumulators: "memory" | "registers"
}

/** Components that one load can bring where rows have `length` elements. */
const widthFor = (length: number, most = 4): ReadWidth =>
  ([4, 2] as const).find((width) => width <= most && length % width === 0) ?? 1

const accessOf = (problem: Problem, tile: SubgroupTile): Access => {
  const { layout, M, N, K } = problem
  const out = N % 4 === 0 ? 4 : 1
  if (layout === "panels") return { depth: tile.depth, a: 4, b: 4, out, tail: false, readers: readersOf(problem, 4, 4) }
  const along = widthFor(K, tile.depth)
  const depth = layout === "tn" ? tile.depth : along
  const a = layout !== "tn" ? along : M % 4 === 0 && tile.rows % 4 === 0 ? 4 : 1
  const b = layout === "nt" ? along : out
  const tail = layout === "tn" && K % depth !== 0
  return { depth, a, b, out, tail, readers: readersOf(problem, a, b) }
}

/**
 * One subgroup makes `rows` × 4·`quads`·`lanes` outputs without workgroup memory: each lane owns its columns, and A
 * travels between lanes by shuffle. The form that software Vulkan drivers run fastest: a load costs them as much as
 * dozens of multiplications, and workgroup memory several times as much.
 */
export const subgroupMatmul = (problem: Problem, lanes: number, tile: SubgroupTile): MatmulLaunch => {
  const { layout, gate } = problem
  const { rows, quads, accumulators } = tile
  if (gate && quads % 2 === 1) throw new Error("a subgroup that gates needs pairs of columns")
  const access = accessOf(problem, tile)
  const { depth, a, b, out, tail } = access
  const kernel: Kernel = {
    name: `matmul ${layout} ${endOf(problem)}: subgroup of ${lanes}, ${rows}×${4 * quads * lanes} by ${depth} in ${accumulators}, loads ${a} ${b} ${out}${tail ? ", tail" : ""}`,
    params: sizes,
    buffers: operands(problem, access.readers, widthType("f32", out)),
    subgroups: true,
    body: () => body(problem, lanes, tile, access),
  }
  return { kernel, params: sizesOf(problem), grid: gridOf(problem, rows, 4 * quads * lanes) }
}

const lines = (parts: readonly string[]): string => parts.join("\n    ")

/**
 * The columns of the lane's vector q: `column` in units of four, their `limit`, and where they are loaded from. With a
 * gate, vectors come in pairs: a gate, and what it lets through, half a row further.
 */
const columnsOf = (q: number, quads: number, lanes: number, gated: boolean): string => {
  if (!gated)
    return `let column${q} = (group.x * ${quads}u + ${q}u) * ${lanes}u + lane; let x${q} = min(column${q}, quads - 1u);`
  const gate = `(group.x * ${quads / 2}u + ${q >> 1}u) * ${lanes}u + lane`
  const half = q % 2 === 0 ? "" : " + quads / 2u"
  return `let column${q} = ${gate}${half}; let x${q} = min(${gate}, quads / 2u - 1u)${half};`
}

const body = ({ layout, epilogue, gate }: Problem, lanes: number, tile: SubgroupTile, access: Access): string => {
  const { rows, quads } = tile
  const { depth, out } = access
  const inMemory = tile.accumulators === "memory"
  const acc = (row: number | "row", q: number): string => {
    if (!inMemory) return `acc${row}_${q}`
    return row === "row" ? `acc[row * ${quads}u + ${q}u]` : `acc[${row * quads + q}]`
  }
  const eachQuad = (text: (q: number) => string): string => range(quads).map(text).join(" ")
  /** Text for every row of the tile: in a loop where accumulators are in memory, else written out. */
  const eachRow = (text: (row: number | "row", place: string) => string): string =>
    inMemory
      ? `for (var row = 0u; row < min(${rows}u, p.M - y); row++) { ${text("row", "(y + row)")} }`
      : lines(range(rows).map((row) => `if (y + ${row}u < p.M) { ${text(row, `(y + ${row}u)`)} }`))
  const a = loadsOfA(layout, lanes, rows, access)
  const b = loadsOfB(layout, lanes, quads, access)
  const registers = () => lines(range(rows).map((row) => eachQuad((q) => `var ${acc(row, q)} = vec4f();`)))
  const store = (row: number | "row", place: string): string =>
    gate
      ? range(quads / 2)
          .map((pair) => writePair(acc(row, 2 * pair), acc(row, 2 * pair + 1), place, 2 * pair))
          .join(" ")
      : eachQuad((q) => writeOut(epilogue, acc(row, q), place, q, out))
  return `${gate ? activationWgsl(gate, "vec4f") : ""}${access.readers.a.declaration}${access.readers.b.declaration}
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let quads = (p.N + 3u) / 4u;
  let steps = (p.K + ${depth - 1}u) / ${depth}u;
  let y = group.y * ${rows}u;
  let firstOut = group.z * p.M * p.N / ${out}u;
  ${eachQuad((q) => columnsOf(q, quads, lanes, gate !== undefined))}
  ${lines([...a.before, ...b.before])}
  let aAdvance = ${a.advance}; let bAdvance = ${b.advance};
  var aAt = 0u; var bAt = 0u;
  ${inMemory ? `var acc: array<vec4f, ${rows * quads}>;` : registers()}
  ${epilogue === "accumulate" ? eachRow((row, place) => eachQuad((q) => readOut(acc(row, q), place, q, out))) : ""}
  for (var k = 0u; k < steps; k++) {
    ${lines(b.inside)}
    ${lines(a.groups.map(({ load, arrivals }) => lines([...load, ...arrivals.map((each) => multiply(each, quads, depth, acc))])))}
    aAt += aAdvance; bAt += bAdvance;
  }
  ${eachRow(store)}
}`
}

/** acc = fma(a, b, acc) for ascending k. Through a local, since a driver masks every store inside a loop. */
const multiply = (
  { shuffle, rows }: Arrival,
  quads: number,
  depth: number,
  acc: (row: number, quad: number) => string,
): string => {
  const updates = rows.flatMap(({ row, terms }) =>
    range(quads).map((q) => {
      const chain = range(depth).map((step) => `t = fma(vec4f(${terms[step]}), b${step}_${q}, t);`)
      return `{ var t = ${acc(row, q)}; ${chain.join(" ")} ${acc(row, q)} = t; }`
    }),
  )
  return `{ ${shuffle} ${updates.join(" ")} }`
}

/** Runs `text` for the columns of a row that exist: four at a time, or one where rows are not aligned (`width` 1). */
const eachColumn = (place: string, q: number, width: number, text: (index: string, part: string) => string): string =>
  width === 4
    ? `if (column${q} < quads) { ${text(`firstOut + ${place} * quads + column${q}`, "")} }`
    : components
        .map((c, e) => {
          const column = `column${q} * 4u + ${e}u`
          return `if (${column} < p.N) { ${text(`firstOut + ${place} * p.N + ${column}`, `.${c}`)} }`
        })
        .join(" ")

const readOut = (acc: string, place: string, q: number, width: number): string =>
  eachColumn(place, q, width, (index, part) => `${acc}${part} = ${start("accumulate", index, "")};`)

const writeOut = (epilogue: Epilogue, acc: string, place: string, q: number, width: number): string =>
  eachColumn(place, q, width, (index, part) => finish(epilogue, index, `${acc}${part}`))

/** Stores a gate, what it lets through, and their product. */
const writePair = (gate: string, value: string, place: string, q: number): string => `if (column${q} < quads / 2u) {
    out[${place} * quads + column${q}] = ${gate}; out[${place} * quads + column${q + 1}] = ${value};
    gated[${place} * (quads / 2u) + column${q}] = act(${gate}) * ${value};
  }`
