import type { DType } from "../../dtype.ts"
import type { Emitter, Operand } from "../../graph/fused-op.ts"
import { placement, writes, type Kernel } from "../../program/kernel.ts"
import { reader } from "../../program/reader.ts"
import { components, range, type Problem } from "./problem.ts"

/**
 * Operands laid out for a tile: A as [⌈M / rows⌉][K][rows], B as [⌈N / columns⌉][K][columns], so that a workgroup reads
 * both from the first element to the last, whatever layout they came in. What lies beyond the last row or column repeats
 * it; K is rounded up to a multiple of four, and steps beyond it hold −0 in A and 0 in B, which adds nothing.
 */
export interface PanelTile {
  readonly rows: number
  readonly columns: number
}

type Side = "a" | "b"

/** Invocations of a workgroup. */
const threads = 8
/** Steps along k of a workgroup: the part of a panel that it writes fits a core's first cache. */
const stretch = 128

const roundUp = (value: number, unit: number): number => Math.ceil(value / unit) * unit

/** Rows of an operand run along k, and are turned on the way into panels, or across it. */
const runsAlongK = ({ layout }: Problem, side: Side): boolean => (side === "a" ? layout !== "tn" : layout === "nt")

/** Whether panels can be made of the operands: one product, rows that can be read four elements at a time. */
export const fitsPanels = (problem: Problem): boolean => {
  const { layout, M, N, K, batch } = problem
  const length = (side: Side) => (runsAlongK(problem, side) ? K : side === "a" ? M : N)
  return layout !== "panels" && !batch && length("a") % 4 === 0 && length("b") % 4 === 0
}

/** Elements of both operands in panels. */
export const panelSizes = ({ M, N, K }: Problem, { rows, columns }: PanelTile): Readonly<Record<Side, number>> => ({
  a: roundUp(M, rows) * roundUp(K, 4),
  b: roundUp(N, columns) * roundUp(K, 4),
})

/** Where A's element (m, k) and B's element (k, n) lie in panels. */
export const panelPlaces = ({ N, K, gate }: Problem, { rows, columns }: PanelTile) => ({
  a: (m: number, k: number): number => (Math.floor(m / rows) * K + k) * rows + (m % rows),
  b: (k: number, n: number): number => {
    const [share, extent] = gate ? [columns / 2, N / 2] : [columns, N]
    const column = n % extent
    return (Math.floor(column / share) * K + k) * columns + (column % share) + (n >= extent ? share : 0)
  },
})

/** Copies both operands into panels: the problem that is left to do, and the copies. */
export const layInPanels = (
  emit: Emitter,
  problem: Problem,
  tile: PanelTile,
  operands: Readonly<Record<Side, Operand>>,
): { readonly problem: Problem; readonly a: Operand; readonly b: Operand } => {
  const { stored, ...rest } = problem
  const sizes = panelSizes(problem, tile)
  const lay = (side: Side): Operand => {
    const [extent, width] = side === "a" ? [problem.M, tile.rows] : [problem.N, tile.columns]
    const out = emit.scratch({ shape: [sizes[side]], dtype: "f32" })
    const gated = side === "b" && problem.gate !== undefined
    const kernel = panels(runsAlongK(problem, side), stored?.[side] ?? "f32", width, gated)
    const grid = [Math.ceil(problem.K / stretch), Math.ceil(extent / width)] as const
    emit.launch(kernel, [operands[side], out], [extent, problem.K, side === "a" ? -0 : 0], grid)
    return out
  }
  return { problem: { ...rest, layout: "panels", K: roundUp(problem.K, 4) }, a: lay("a"), b: lay("b") }
}

/**
 * Panels of `width`, a multiple of 32, from a matrix [extent, K] with rows along k, or [K, extent]. With a gate, half a
 * panel are gates and the other half what they let through, which lies half the extent further.
 */
const panels = (alongK: boolean, dtype: DType, width: number, gated: boolean): Kernel => {
  const x = reader("x", dtype, 4)
  /** Where the operand has the `w`-th row of a panel, or its `w`-th vector of four where rows run across k. */
  const unit = alongK ? 1 : 4
  const place = (w: string): string => {
    if (!gated) return `min(group.y * ${width / unit}u + ${w}, p.extent / ${unit}u - 1u)`
    const [share, half] = [`${width / 2 / unit}u`, `p.extent / ${2 * unit}u`]
    return `min(group.y * ${share} + ${w} % ${share}, ${half} - 1u) + select(0u, ${half}, ${w} >= ${share})`
  }
  const quads = width / 4
  const turned = () => `for (var w = 0u; w < ${quads}u; w++) {
    ${range(4)
      .map((r) => `let at${r} = (${place(`(w * 4u + ${r}u)`)}) * p.K / 4u;`)
      .join(" ")}
    for (var k = first / 4u + local.x; k < min(first + ${stretch}u, p.K) / 4u; k += ${threads}u) {
      ${range(4)
        .map((r) => `let r${r} = ${x.at(`at${r} + k`)};`)
        .join(" ")}
      ${components
        .map((c, e) => `out[panel + (k * 4u + ${e}u) * ${quads}u + w] = vec4f(r0.${c}, r1.${c}, r2.${c}, r3.${c});`)
        .join("\n      ")}
    }
  }`
  const straight = () => `for (var k = first; k < min(first + ${stretch}u, steps); k++) {
    let row = min(k, p.K - 1u) * (p.extent / 4u);
    ${range(quads / threads)
      .map((j) => {
        const w = `(${j * threads}u + local.x)`
        return `out[panel + k * ${quads}u + ${w}] = select(vec4f(p.beyond), ${x.at(`row + ${place(w)}`)}, k < p.K);`
      })
      .join("\n    ")}
  }`
  return {
    name: `panels of ${width} from ${dtype} rows ${alongK ? "along" : "across"} k${gated ? ", gated" : ""}`,
    params: { extent: "u32", K: "u32", beyond: "f32" },
    buffers: [x.buffer, writes("out", "vec4f")],
    body: () => `${x.declaration}
@compute @workgroup_size(${threads})
fn main(${placement}) {
  let steps = (p.K + 3u) / 4u * 4u;
  let first = group.x * ${stretch}u;
  let panel = group.y * steps * ${quads}u;
  ${alongK ? turned() : straight()}
}`,
  }
}
