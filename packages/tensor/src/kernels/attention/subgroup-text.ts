import { keyBlock, type AttentionProblem } from "./problem.ts"
import { range } from "../matmul/problem.ts"

/** WGSL of which the subgroup kernels of attention are made. */

/** How the lanes share a block of 32 columns (keys, or queries in the gradient of keys) and a head. */
export interface Sharing {
  readonly lanes: number
  /** Fours of columns that a lane owns in a block: the fours number `lane`, `lanes + lane` … */
  readonly sets: number
  /** vec4s of the head that a lane owns. */
  readonly quads: number
}

export const sharingOf = (headDim: number, lanes: number): Sharing => ({
  lanes,
  sets: keyBlock / 4 / lanes,
  quads: Math.ceil(headDim / 4 / lanes),
})

export const each = (count: number, text: (index: number) => string): string => range(count).map(text).join("\n  ")

export const components = ["x", "y", "z", "w"] as const

/** Declares what a lane owns of a head: `column{i}`, and `x{i}` where it exists. */
export const ownColumns = ({ lanes, quads }: Sharing): string =>
  each(quads, (i) => `let column${i} = ${i * lanes}u + lane; let x${i} = min(column${i}, D4 - 1u);`)

/** A component of a vector, by its number, and a half of one. */
export const pickWgsl = `
fn halfOf(v: vec4f, isSecond: bool) -> vec2f { return select(v.xy, v.zw, isSecond); }
fn pick(v: vec4f, component: u32) -> f32 {
  return select(select(v.x, v.y, component == 1u), select(v.z, v.w, component == 3u), component > 1u);
}`

/**
 * target[row] += a · columns, by four steps of the chain. Lane `row % lanes` holds the row's `a{row / lanes}`, a lane's
 * columns are `b{set}{0 … 3}`. Through a local, since a driver masks every store inside a loop.
 */
export const addProducts = ({ lanes, sets }: Sharing, row: number, target: string, a: string, b: string): string =>
  `{ let a = subgroupShuffle(${a}${Math.floor(row / lanes)}, ${row % lanes}u); ${each(sets, (s) => {
    const place = `${target}[${row * sets + s}]`
    const chain = components.map((c) => {
      const columns = range(4).map((e) => `${b}${s}${e}.${c}`)
      return `t = fma(vec4f(a.${c}), vec4f(${columns.join(", ")}), t);`
    })
    return `{ var t = ${place}; ${chain.join(" ")} ${place} = t; }`
  })} }`

/** Declares `w`: the part `pick` of a row's weights for the four columns number `four`. */
const arriving = (
  { lanes, sets }: Sharing,
  row: number,
  weights: string,
  pick: (weights: string) => string = (own) => own,
): string =>
  sets === 1
    ? `let w = subgroupShuffle(${pick(`${weights}[${row}]`)}, four);`
    : `let w = subgroupShuffle(${pick(`select(${weights}[${2 * row + 1}], ${weights}[${2 * row}], four < ${lanes}u)`)}, four % ${lanes}u);`

/** sums[row] += weight · value for half a four of columns, whose values are `value{0, 1}_{quad}`: the second, `isSecond`. */
export const addPair = (sharing: Sharing, row: number, sums: string, weights: string, value: string): string =>
  `{ ${arriving(sharing, row, weights, (own) => `halfOf(${own}, isSecond)`)} ${each(sharing.quads, (i) => {
    const place = `${sums}[${row * sharing.quads + i}]`
    return `{ var t = ${place}; t = fma(vec4f(w.x), ${value}0_${i}, t); t = fma(vec4f(w.y), ${value}1_${i}, t); ${place} = t; }`
  })} }`

/** The same for one column, number `component` of the four, if the row sees it. */
export const addOne = (
  sharing: Sharing,
  row: number,
  sums: string,
  weights: string,
  value: string,
  isSeen: string,
): string =>
  `{ ${arriving(sharing, row, weights, (own) => `pick(${own}, component)`)} ${each(sharing.quads, (i) => {
    const place = `${sums}[${row * sharing.quads + i}]`
    return `{ var t = ${place}; t = select(t, fma(vec4f(w), ${value}0_${i}, t), ${isSeen}); ${place} = t; }`
  })} }`

/** For gradients of keys: the query (row and head) in a column, counted from a first row, of the heads of a key head. */
export const itemOfColumnWgsl = ({ heads, kvHeads }: AttentionProblem): string => `
const perKey = ${heads / kvHeads}u;
fn itemOf(firstRow: u32, column: u32, kvHead: u32) -> u32 {
  return (firstRow + column / perKey) * p.heads + kvHead * perKey + column % perKey;
}`

/** The row after the sequence to which a row belongs, sought by halves. */
export const sequenceEndWgsl = `
fn sequenceEnd(row: u32) -> u32 {
  let start = spans[row].z;
  var end = row + 1u;
  for (var beyond = p.rows; end < beyond;) {
    let middle = (end + beyond) / 2u;
    if (spans[middle].z == start) { end = middle + 1u; } else { beyond = middle; }
  }
  return end;
}`
