import type { Kernel } from "../program/kernel.ts"
import {
  finish,
  gridOf,
  operands,
  range,
  sizes,
  sizesOf,
  start,
  type Epilogue,
  type Layout,
  type MatmulLaunch,
  type Problem,
} from "./matmul-problem.ts"

/** What one subgroup makes, and how far it walks at a time. */
export interface SubgroupTile {
  readonly rows: number
  /** Four columns each, per lane. */
  readonly quads: number
  /** Steps along k whose operands are loaded together: 1, 2 or 4. */
  readonly depth: number
  /**
   * Where the accumulators live. A driver that compiles with LLVM keeps everything in registers that it can, and then
   * spills what it is loading: `memory` makes them an array that a loop indexes, which it leaves where it is.
   */
  readonly accumulators: "memory" | "registers"
}

const components = ["x", "y", "z", "w"] as const
const vectorType = (width: number): string => (width === 1 ? "f32" : `vec${width}f`)
const component = (value: string, width: number, index: number): string =>
  width === 1 ? value : `${value}.${components[index]}`
/** Components that one load can bring where rows have `length` elements. */
const widthFor = (length: number, most = 4): number =>
  [4, 2].find((width) => width <= most && length % width === 0) ?? 1

/** Widths of the loads and stores that a problem allows, and the steps along k that follow from them. */
const accessOf = ({ layout, M, N, K }: Problem, tile: SubgroupTile) => {
  const depth = layout === "tn" ? tile.depth : widthFor(K, tile.depth)
  const columns = N % 4 === 0 ? 4 : 1
  return {
    depth,
    a: layout === "tn" ? (M % 4 === 0 ? 4 : 1) : depth,
    b: layout === "nt" ? depth : columns,
    out: columns,
  }
}

type Access = ReturnType<typeof accessOf>

/**
 * One subgroup makes `rows` × 4·`quads`·`lanes` outputs without workgroup memory: each lane owns its columns, and A
 * travels between lanes by shuffle. The form that software Vulkan drivers run fastest: a load costs them as much as
 * dozens of multiplications, and workgroup memory several times as much.
 */
export const subgroupMatmul = (problem: Problem, lanes: number, tile: SubgroupTile): MatmulLaunch => {
  const { layout, epilogue } = problem
  const { rows, quads, accumulators } = tile
  const access = accessOf(problem, tile)
  const kernel: Kernel = {
    name: `matmul ${layout} ${epilogue}: subgroup of ${lanes}, ${rows}×${4 * quads * lanes} by ${access.depth} in ${accumulators}, loads ${access.a} ${access.b} ${access.out}`,
    params: sizes,
    buffers: operands(epilogue, {
      a: vectorType(access.a),
      b: vectorType(access.b),
      out: vectorType(access.out),
    }),
    subgroups: true,
    body: () => body(layout, epilogue, lanes, tile, access),
  }
  const grid = gridOf(problem, rows, 4 * quads * lanes)
  return { kernel, params: sizesOf(problem), grid }
}

const lines = (parts: readonly string[]): string => parts.join("\n    ")

const body = (layout: Layout, epilogue: Epilogue, lanes: number, tile: SubgroupTile, access: Access): string => {
  const { rows, quads } = tile
  const { depth } = access
  const inMemory = tile.accumulators === "memory"
  const acc = (row: number | "row", quad: number) =>
    inMemory ? `acc[${row === "row" ? `row * ${quads}u + ${quad}u` : row * quads + quad}]` : `acc${row}_${quad}`
  /** Runs text for every row of the tile: in a loop where accumulators are in memory, else written out. */
  const eachRow = (text: (row: number | "row", place: string) => string): string =>
    inMemory
      ? `for (var row = 0u; row < min(${rows}u, p.M - y); row++) { ${text("row", "(y + row)")} }`
      : lines(range(rows).map((row) => `if (y + ${row}u < p.M) { ${text(row, `(y + ${row}u)`)} }`))
  const a = loadsOfA(layout, lanes, tile, access)
  const b = loadsOfB(layout, tile, access)
  return `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let quads = (p.N + 3u) / 4u;
  let steps = (p.K + ${depth - 1}u) / ${depth}u;
  let y = group.y * ${rows}u;
  let firstOut = group.z * p.M * p.N / ${access.out}u;
  ${lines(range(quads).map((q) => `let column${q} = (group.x * ${quads}u + ${q}u) * ${lanes}u + lane; let x${q} = min(column${q}, quads - 1u);`))}
  ${lines([...a.before, ...b.before])}
  ${
    inMemory
      ? `var acc: array<vec4f, ${rows * quads}>;`
      : lines(
          range(rows).map((row) =>
            range(quads)
              .map((q) => `var ${acc(row, q)} = vec4f();`)
              .join(" "),
          ),
        )
  }
  ${
    epilogue === "accumulate"
      ? eachRow((row, place) =>
          range(quads)
            .map((q) => readOut(acc(row, q), place, q, access))
            .join(" "),
        )
      : ""
  }
  for (var k = 0u; k < steps; k++) {
    ${lines(b.inside)}
    ${lines(a.groups.map(({ load, rows: inGroup }) => `${load}\n    ${lines(inGroup.map((each) => multiply(each, quads, depth, acc)))}`))}
  }
  ${eachRow((row, place) =>
    range(quads)
      .map((q) => writeOut(epilogue, acc(row, q), place, q, access))
      .join(" "),
  )}
}`
}

/** One or four rows whose elements of A arrive by the shuffles `shuffle`; `terms[row][step]` names them. */
interface Arrival {
  readonly shuffle: string
  readonly rows: readonly { readonly row: number; readonly terms: readonly string[] }[]
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

interface LoadsOfA {
  readonly before: readonly string[]
  /** Each loads one value per lane and then serves the rows that these are of. */
  readonly groups: readonly { readonly load: string; readonly rows: readonly Arrival[] }[]
}

const loadsOfA = (layout: Layout, lanes: number, { rows }: SubgroupTile, { a: width, depth }: Access): LoadsOfA =>
  layout === "tn" ? loadsAcrossRows(lanes, rows, width, depth) : loadsAlongRows(lanes, rows, depth)

/** A row of A runs along k: each lane loads `depth` elements of one row. */
const loadsAlongRows = (lanes: number, rows: number, depth: number): LoadsOfA => {
  const count = Math.ceil(rows / lanes)
  return {
    before: range(count).map(
      (g) => `let a${g}At = (group.z * p.aStep + min(y + ${g * lanes}u + lane, p.M - 1u) * p.K) / ${depth}u;`,
    ),
    groups: range(count).map((g) => ({
      load: `let a${g} = a[a${g}At + k];`,
      rows: range(Math.min(lanes, rows - g * lanes)).map((lane) => ({
        shuffle: `let s = subgroupShuffle(a${g}, ${lane}u);`,
        rows: [{ row: g * lanes + lane, terms: range(depth).map((step) => component("s", depth, step)) }],
      })),
    })),
  }
}

/**
 * A row of A runs along m: each lane loads four rows at one step. The last steps may lie beyond K; what they add to an
 * accumulator is −0, which changes nothing.
 */
const loadsAcrossRows = (lanes: number, rows: number, width: number, depth: number): LoadsOfA => {
  const perStep = rows / 4
  const count = Math.ceil((perStep * depth) / lanes)
  const load = (g: number): string => {
    const quad = `min(y / 4u + q${g} % ${perStep}u, (p.M - 1u) / 4u)`
    const at = `group.z * p.aStep + min(k${g}, p.K - 1u) * p.M`
    const value =
      width === 4
        ? `a[(${at}) / 4u + ${quad}]`
        : `vec4f(${range(4)
            .map((e) => `a[${at} + min(${quad} * 4u + ${e}u, p.M - 1u)]`)
            .join(", ")})`
    return `let q${g} = ${g * lanes}u + lane; let k${g} = k * ${depth}u + q${g} / ${perStep}u;
    let a${g} = select(vec4f(-0.0), ${value}, k${g} < p.K);`
  }
  const arrivals = range(perStep).map((quad): Arrival => {
    const shuffles = range(depth).map((step) => {
      const q = step * perStep + quad
      return `let s${step} = subgroupShuffle(a${Math.floor(q / lanes)}, ${q % lanes}u);`
    })
    return {
      shuffle: shuffles.join(" "),
      rows: components.map((c, e) => ({ row: quad * 4 + e, terms: range(depth).map((step) => `s${step}.${c}`) })),
    }
  })
  return { before: [], groups: [{ load: lines(range(count).map(load)), rows: arrivals }] }
}

/** Statements that load B: `b{step}_{quad}` are the lane's columns, four each, at a step. */
const loadsOfB = (layout: Layout, { quads }: SubgroupTile, { b: width, depth }: Access) => {
  if (layout === "nt") {
    // A column of B runs along k, `depth` elements in a load.
    const column = (q: number, e: number) => `min(x${q} * 4u + ${e}u, p.N - 1u)`
    return {
      before: range(quads).flatMap((q) =>
        range(4).map((e) => `let b${q}${e}At = (group.z * p.bStep + ${column(q, e)} * p.K) / ${depth}u;`),
      ),
      inside: range(quads).flatMap((q) => [
        ...range(4).map((e) => `let t${q}${e} = b[b${q}${e}At + k];`),
        ...range(depth).map(
          (step) =>
            `let b${step}_${q} = vec4f(${range(4)
              .map((e) => component(`t${q}${e}`, depth, step))
              .join(", ")});`,
        ),
      ]),
    }
  }
  // Only where A has no tail of its own (tn) can a step lie beyond K.
  const at = (step: number) =>
    `group.z * p.bStep + ${layout === "tn" ? `min(k * ${depth}u + ${step}u, p.K - 1u)` : `(k * ${depth}u + ${step}u)`} * p.N`
  const value = (step: number, q: number) =>
    width === 4
      ? `b[(${at(step)}) / 4u + x${q}]`
      : `vec4f(${range(4)
          .map((e) => `b[${at(step)} + min(x${q} * 4u + ${e}u, p.N - 1u)]`)
          .join(", ")})`
  const beyond = (step: number, loaded: string) =>
    layout === "tn" && step > 0 ? `select(vec4f(), ${loaded}, k * ${depth}u + ${step}u < p.K)` : loaded
  return {
    before: [],
    inside: range(depth).flatMap((step) =>
      range(quads).map((q) => `let b${step}_${q} = ${beyond(step, value(step, q))};`),
    ),
  }
}

/** Where four columns of a row lie in `out`. */
const outIndex = (place: string, q: number, { out: width }: Access, e = 0): string =>
  width === 4 ? `firstOut + ${place} * quads + column${q}` : `firstOut + ${place} * p.N + column${q} * 4u + ${e}u`

const inColumns = (q: number, { out: width }: Access, e: number): string =>
  width === 4 ? `column${q} < quads` : `column${q} * 4u + ${e}u < p.N`

const readOut = (acc: string, place: string, q: number, access: Access): string => {
  const index = (e: number) => outIndex(place, q, access, e)
  if (access.out === 4) return `if (${inColumns(q, access, 0)}) { ${acc} = ${start("accumulate", index(0), "")}; }`
  return range(4)
    .map((e) => `if (${inColumns(q, access, e)}) { ${acc}.${components[e]} = ${start("accumulate", index(e), "")}; }`)
    .join(" ")
}

const writeOut = (epilogue: Epilogue, acc: string, place: string, q: number, access: Access): string => {
  const index = (e: number) => outIndex(place, q, access, e)
  if (access.out === 4) return `if (${inColumns(q, access, 0)}) { ${finish(epilogue, index(0), acc)} }`
  return range(4)
    .map((e) => `if (${inColumns(q, access, e)}) { ${finish(epilogue, index(e), `${acc}.${components[e]}`)} }`)
    .join(" ")
}
