import type { AttentionProblem } from "./problem.ts"
import { keyBlock, runLengthWgsl } from "./problem.ts"
import { addPair, addOne, each, ownColumns, pickWgsl, sharingOf, type Sharing } from "./subgroup-text.ts"
import { range } from "../matmul/problem.ts"

/** Queries that a subgroup takes together: `parts` heads, which read one key head, of each of `rows` rows. */
export interface QueryTile {
  readonly rows: number
  readonly parts: number
}

/** A tile of at most `queries` queries: of the heads that share a key head as far as they fit, of as many rows as then fit. */
export const shapeTile = (
  { heads, kvHeads }: Pick<AttentionProblem, "heads" | "kvHeads">,
  queries: number,
): QueryTile => {
  const perKey = heads / kvHeads
  const parts = range(Math.min(perKey, queries) + 1).findLast((count) => count > 0 && perKey % count === 0)!
  return { parts, rows: Math.floor(queries / parts) }
}

/**
 * Rows whose sums, so many vec4s of a head each, a subgroup takes together. More rows share what lanes load, but drivers take
 * long to compile more sums.
 */
export const rowsFor = (headDim: number, lanes: number, most: number): number =>
  Math.max(1, Math.min(most, Math.floor(32 / sharingOf(headDim, lanes).quads)))

/**
 * The tile for a device of `lanes` lanes. Rows that see keys of their own (`alone`) have nothing to share with each other.
 */
export const queryTile = (
  { heads, kvHeads, headDim }: AttentionProblem,
  lanes: number,
  { alone = false, most = 2 * lanes }: { readonly alone?: boolean; readonly most?: number } = {},
): QueryTile => {
  const tile = shapeTile({ heads, kvHeads }, rowsFor(headDim, lanes, most))
  return alone ? { ...tile, rows: 1 } : tile
}

/** What a kernel does while a tile of queries walks its keys. Its text may use what {@link queryWalk} declares. */
export interface QueryWalk {
  readonly declarations: string
  /** Before the walk; `q{g}At` is the place of query number {@link queryOf} of the tile that the lane loads. */
  readonly before: string
  /** Before the keys of a run. */
  readonly start: string
  /** Makes the weights `s` of a block from the places `k{set}{0 … 3}At` of the lane's keys. */
  readonly weights: string
  /** First of the loads of a key that weights are for: `keyHead` or `valueHead`. */
  readonly values: "keyHead" | "valueHead"
  /** Stores the result for query `r` of the tile, at `at`. */
  readonly store: string
}

/** Number in the tile of the query that a lane loads in load g. */
export const queryOf = (g: number, lanes: number, { rows, parts }: QueryTile): string =>
  `min(${g * lanes}u + lane, ${rows * parts - 1}u)`

/** Declares the positions that a query of a row of the tile sees: from `low` to before `limit`. */
const limitsOf = (row: number): string => `let limit = span.w + ${row} - i32(begin); let low = limit - window;`

/** Declares `seen{set}`, which of the lane's keys a query of a row sees. */
export const seenBy = (row: number, sets: number): string =>
  `${limitsOf(row)} ${each(sets, (s) => `let seen${s} = (keys${s} < vec4i(limit)) & (keys${s} >= vec4i(low));`)}`

/**
 * `fn main` of a subgroup that walks the keys of a tile of queries. Rows of the tile whose keys lie in the same places, each
 * seeing one more than the row before, are a run and walk together. Keys that all of a run see are added in pairs, those at
 * its edges one by one.
 */
export const queryWalk = (sharing: Sharing, tile: QueryTile, walk: QueryWalk): string => {
  const { lanes, sets, quads } = sharing
  const { rows, parts } = tile
  const queries = rows * parts
  const rowOf = (query: number) => Math.floor(query / parts)
  const load = (e: number, position: string): string =>
    `let v${e}At = keyRow(span, ${position}) * stride + ${walk.values}; ${each(quads, (i) => `let v${e}_${i} = kv[v${e}At + x${i}];`)}`
  return `${walk.declarations}
${pickWgsl}
${runLengthWgsl}
fn isWhole(key: i32, span: vec4i, last: i32) -> bool {
  return key % 2 == 0 && key + 1 < span.w && key >= firstKey(last);
}
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let firstRow = group.x * ${rows}u;
  let rowsHere = min(${rows}u, p.rows - firstRow);
  let firstHead = group.y * ${parts}u;
  let keyHead = firstHead / (p.heads / p.kvHeads) * D4;
  let valueHead = p.kvHeads * D4 + keyHead;
  let stride = 2u * p.kvHeads * D4;
  let factor = factorOf();
  let window = i32(p.window);
  ${each(Math.ceil(queries / lanes), (g) => {
    const query = queryOf(g, lanes, tile)
    return `let q${g}Item = min(firstRow + ${query} / ${parts}u, p.rows - 1u) * p.heads + firstHead + ${query} % ${parts}u; let q${g}At = q${g}Item * D4;`
  })}
  ${ownColumns(sharing)}
  ${walk.before}
  var end = 0u;
  for (var begin = 0u; begin < rowsHere; begin = end) {
    let span = spans[firstRow + begin];
    end = begin + runLength(span, firstRow + begin, rowsHere - begin);
    let start = firstKey(span.w);
    let last = span.w + i32(end - begin) - 1;
    var acc: array<vec4f, ${queries * quads}>;
    ${each(queries * quads, (i) => `acc[${i}] = vec4f();`)}
    ${walk.start}
    for (var base = start - start % ${keyBlock}; base < last; base += ${keyBlock}) {
      ${each(sets, (s) => `let keys${s} = vec4i(base + 4 * i32(${s * lanes}u + lane)) + vec4i(0, 1, 2, 3);`)}
      ${each(sets, (s) => each(4, (e) => `let k${s}${e}At = keyRow(span, min(keys${s}[${e}], last - 1)) * stride + keyHead;`))}
      var s: array<vec4f, ${queries * sets}>;
      ${each(queries * sets, (i) => `s[${i}] = vec4f();`)}
      ${walk.weights}
      let until = min(base + ${keyBlock}, last);
      for (var key = max(base, start); key < until;) {
        for (; isWhole(key, span, last) && key < until; key += 2) {
          let four = u32(key - base) / 4u; let isSecond = key % 4 == 2;
          ${each(2, (e) => load(e, `key + ${e}`))}
          ${each(queries, (r) => addPair(sharing, r, "acc", "s", "v"))}
        }
        for (; !isWhole(key, span, last) && key < until; key++) {
          let four = u32(key - base) / 4u; let component = u32(key) % 4u;
          ${load(0, "key")}
          ${each(queries, (r) => `{ ${limitsOf(rowOf(r))} let isSeen = key < limit && key >= low; ${addOne(sharing, r, "acc", "s", "v", "isSeen")} }`)}
        }
      }
    }
    for (var r = begin * ${parts}u; r < end * ${parts}u; r++) {
      let at = (firstRow + r / ${parts}u) * p.heads + firstHead + r % ${parts}u;
      ${walk.store}
    }
  }
}`
}
