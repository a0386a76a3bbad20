import { placement, type Kernel } from "../../program/kernel.ts"
import { widthType, type Reader } from "../../program/reader.ts"
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
  type MatmulLaunch,
  type Problem,
} from "./problem.ts"

/** What one workgroup makes, and the part of it that one invocation holds in registers. */
export interface WorkgroupTile {
  readonly rows: number
  readonly columns: number
  /** Rows per invocation, 4 or 8. */
  readonly perRow: number
  /** Vectors of four columns per invocation. */
  readonly perColumn: 1 | 2
}

/** Steps along k that are staged together. */
const depth = 16

/** How an operand lies in memory: its rows run along k (and are transposed on the way), or along the output. */
interface Operand {
  readonly name: "a" | "b"
  readonly alongK: boolean
  /** Components of one load: 4, or 1 where rows are not aligned. */
  readonly width: 4 | 1
  /** Elements of the tile across k. */
  readonly extent: number
  /** WGSL: which element of the operand the tile's element `i` is, and the number of them that the operand has. */
  readonly element: (i: string) => string
  readonly limit: "p.M" | "p.N"
  readonly reader: Reader
}

/**
 * One workgroup makes a tile of outputs from operands that it stages in workgroup memory, four elements at a time: the
 * form for GPUs. In memory both tiles lie as vectors of four elements across k, one row per step.
 */
export const tiledMatmul = (problem: Problem, tile: WorkgroupTile): MatmulLaunch => {
  const { layout, gate, M, N, K } = problem
  if (gate && tile.perColumn !== 2) throw new Error("a tile that gates needs two vectors of columns per invocation")
  const width = (length: number): 4 | 1 => (length % 4 === 0 ? 4 : 1)
  const aAlongK = layout !== "tn"
  const bAlongK = layout === "nt"
  const [aWidth, bWidth] = [width(aAlongK ? K : M), width(bAlongK ? K : N)]
  const readers = readersOf(problem, aWidth, bWidth)
  const a: Operand = {
    name: "a",
    alongK: aAlongK,
    width: aWidth,
    reader: readers.a,
    extent: tile.rows,
    element: (i) => `y0 + ${i}`,
    limit: "p.M",
  }
  const b: Operand = {
    name: "b",
    alongK: bAlongK,
    width: bWidth,
    reader: readers.b,
    extent: tile.columns,
    // With a gate, the second half of the tile lies half a row further.
    element: (i) =>
      gate ? `select(p.N / 2u - ${tile.columns / 2}u, 0u, ${i} < ${tile.columns / 2}u) + x0 + ${i}` : `x0 + ${i}`,
    limit: "p.N",
  }
  const out = width(N)
  const kernel: Kernel = {
    name: `matmul ${layout} ${endOf(problem)}: tiles of ${tile.rows}×${tile.columns}, ${tile.perRow}×${4 * tile.perColumn} each, loads ${a.width} ${b.width} ${out}`,
    params: sizes,
    buffers: operands(problem, readers, widthType("f32", out)),
    body: () => body(problem, tile, a, b, out),
  }
  const grid = gridOf(problem, tile.rows, tile.columns)
  return { kernel, params: sizesOf(problem), grid }
}

const lines = (parts: readonly string[]): string => parts.join("\n    ")

const body = ({ epilogue, gate }: Problem, tile: WorkgroupTile, a: Operand, b: Operand, out: 4 | 1): string => {
  const { rows, columns, perRow, perColumn } = tile
  const across = columns / (4 * perColumn)
  const threads = (rows / perRow) * across
  const acc = (r: number, c: number) => `acc${r}_${c}`
  /** Vectors of columns of one invocation lie apart, so that neighbours read neighbouring vectors. */
  const column = (c: number) => `x0 / 4u + x + ${c * across}u`
  const place = (r: number, c: number, e: number) =>
    out === 4 ? `firstOut + m${r} * (p.N / 4u) + ${column(c)}` : `firstOut + m${r} * p.N + (${column(c)}) * 4u + ${e}u`
  const eachOutput = (text: (value: string, index: string) => string) =>
    lines(
      range(perRow).flatMap((r) =>
        range(perColumn).flatMap((c) =>
          range(out === 4 ? 1 : 4).map((e) => {
            const value = out === 4 ? acc(r, c) : `${acc(r, c)}.${components[e]}`
            return `if (m${r} < p.M && (${column(c)}) * 4u + ${e}u < p.N) { ${text(value, place(r, c, e))} }`
          }),
        ),
      ),
    )
  const storePairs = () =>
    lines(
      range(perRow).map(
        (r) => `if (m${r} < p.M && x0 / 4u + x < p.N / 8u) {
    let pair = m${r} * (p.N / 4u) + x0 / 4u + x;
    out[pair] = ${acc(r, 0)}; out[pair + p.N / 8u] = ${acc(r, 1)};
    gated[m${r} * (p.N / 8u) + x0 / 4u + x] = act(${acc(r, 0)}) * ${acc(r, 1)};
  }`,
      ),
    )
  return `${gate ? activationWgsl(gate, "vec4f") : ""}${a.reader.declaration}${b.reader.declaration}
var<workgroup> aTile: array<vec4f, ${(depth * rows) / 4}>;
var<workgroup> bTile: array<vec4f, ${(depth * columns) / 4}>;
@compute @workgroup_size(${threads})
fn main(${placement}) {
  let lane = local.x;
  let y0 = group.y * ${rows}u; let x0 = group.x * ${gate ? columns / 2 : columns}u;
  let y = lane / ${across}u; let x = lane % ${across}u;
  let firstOut = group.z * p.M * p.N / ${out}u;
  ${range(perRow)
    .map((r) => `let m${r} = y0 + y * ${perRow}u + ${r}u;`)
    .join(" ")}
  ${range(perRow)
    .flatMap((r) => range(perColumn).map((c) => `var ${acc(r, c)} = vec4f();`))
    .join(" ")}
  ${epilogue === "accumulate" ? eachOutput((value, index) => `${value} = ${start("accumulate", index, "")};`) : ""}
  for (var k0 = 0u; k0 < p.K; k0 += ${depth}u) {
    ${stage(a, threads)}
    ${stage(b, threads)}
    workgroupBarrier();
    for (var k = 0u; k < ${depth}u; k++) {
      ${range(perRow / 4)
        .map((q) => `let a${q} = aTile[k * ${rows / 4}u + y * ${perRow / 4}u + ${q}u];`)
        .join(" ")}
      ${range(perColumn)
        .map((c) => `let b${c} = bTile[k * ${columns / 4}u + x + ${c * across}u];`)
        .join(" ")}
      ${lines(
        range(perRow).map((r) =>
          range(perColumn)
            .map((c) => `${acc(r, c)} = fma(vec4f(a${r >> 2}.${components[r % 4]}), b${c}, ${acc(r, c)});`)
            .join(" "),
        ),
      )}
    }
    workgroupBarrier();
  }
  ${gate ? storePairs() : eachOutput((value, index) => finish(epilogue, index, value))}
}`
}

/**
 * Copies one operand's tile into workgroup memory. Steps beyond K hold −0 in A, so that what they add to an accumulator
 * changes nothing.
 */
const stage = ({ name, alongK, width, extent, element, limit, reader }: Operand, threads: number): string => {
  const step = `group.z * p.${name}Step`
  const nothing = `vec4f(${name === "a" ? "-0.0" : "0.0"})`
  const quads = extent / 4
  if (!alongK) {
    // Rows run across k: they are copied as they lie.
    const row = `${step} + min(k0 + k, p.K - 1u) * ${limit}`
    const value =
      width === 4
        ? reader.at(`(${row} + min(other, ${limit} - 4u)) / 4u`)
        : `vec4f(${range(4)
            .map((e) => reader.at(`${row} + min(other + ${e}u, ${limit} - 1u)`))
            .join(", ")})`
    return `for (var i = lane; i < ${depth * quads}u; i += ${threads}u) {
      let k = i / ${quads}u; let other = ${element(`i % ${quads}u * 4u`)};
      ${name}Tile[i] = select(${nothing}, ${value}, k0 + k < p.K);
    }`
  }
  // Rows run along k: blocks of 4 × 4 are transposed in registers. Four invocations read one row's 64 bytes.
  const perBlock = depth / 4
  const row = (r: number) => `${step} + min(other + ${r}u, ${limit} - 1u) * p.K`
  const load = (r: number) =>
    width === 4
      ? `let r${r} = ${reader.at(`(${row(r)} + min(k, p.K - 4u)) / 4u`)};`
      : `let r${r} = vec4f(${range(4)
          .map((e) => reader.at(`${row(r)} + min(k + ${e}u, p.K - 1u)`))
          .join(", ")});`
  return `for (var i = lane; i < ${quads * perBlock}u; i += ${threads}u) {
      let quad = i / ${perBlock}u; let step = i % ${perBlock}u * 4u; let k = k0 + step; let other = ${element("quad * 4u")};
      ${lines(range(4).map(load))}
      ${lines(
        range(4).map(
          (e) =>
            `${name}Tile[(step + ${e}u) * ${quads}u + quad] = select(${nothing}, vec4f(${range(4)
              .map((r) => `r${r}.${components[e]}`)
              .join(", ")}), k + ${e}u < p.K);`,
        ),
      )}
    }`
}
