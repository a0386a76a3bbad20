import {
  addProduct,
  attentionParams,
  attentionParamsOf,
  attentionWgsl,
  gradientBuffers,
  keyBlock,
  variantName,
  type AttentionLaunch,
  type AttentionProblem,
} from "./problem.ts"
import { queryOf, queryWalk, seenBy, type QueryTile } from "./subgroup-queries.ts"
import {
  addPair,
  addOne,
  addProducts,
  each,
  itemOfColumnWgsl,
  ownColumns,
  pickWgsl,
  sequenceEndWgsl,
  sharingOf,
} from "./subgroup-text.ts"

/** The gradient of the queries: the walk of `subgroupAttention`, over keys and values at once. */
export const subgroupQueryGradient = (problem: AttentionProblem, lanes: number, tile: QueryTile): AttentionLaunch => ({
  kernel: {
    name: `attention query gradient: subgroup of ${lanes}, ${tile.rows} rows × ${tile.parts} heads, ${variantName(problem)}`,
    params: attentionParams,
    buffers: gradientBuffers.queries,
    subgroups: true,
    body: () => queriesBody(problem, lanes, tile),
  },
  params: attentionParamsOf(problem),
  grid: [Math.ceil(problem.rows / tile.rows), problem.heads / tile.parts],
})

const queriesBody = (problem: AttentionProblem, lanes: number, tile: QueryTile): string => {
  const sharing = sharingOf(problem.headDim, lanes)
  const { sets, quads } = sharing
  const queries = tile.rows * tile.parts
  const loads = Math.ceil(queries / lanes)
  const row = (r: number) => Math.floor(r / tile.parts)
  const arrives = (value: string, r: number) =>
    `vec4f(subgroupShuffle(${value}${Math.floor(r / lanes)}, ${r % lanes}u))`
  return queryWalk(sharing, tile, {
    declarations: attentionWgsl(problem, "vec4f"),
    before: each(
      loads,
      (g) => `var own${g} = 0.0;
  for (var d = 0u; d < p.quads; d++) { let a = grad[q${g}At + d]; let y = o[q${g}At + d]; ${addProduct(`own${g}`, "a", "y")} }
  let norm${g} = lse[q${g}Item];
  if (firstRow + ${queryOf(g, lanes, tile)} / ${tile.parts}u < p.rows) { delta[q${g}Item] = own${g}; }`,
    ),
    start: "",
    weights: `${each(sets, (s) => each(4, (e) => `let v${s}${e}At = k${s}${e}At + p.kvHeads * D4;`))}
      var c: array<vec4f, ${queries * sets}>;
      ${each(queries * sets, (i) => `c[${i}] = vec4f();`)}
      for (var d = 0u; d < p.quads; d++) {
        ${each(sets, (s) => each(4, (e) => `let k${s}${e} = kv[k${s}${e}At + d]; let v${s}${e} = kv[v${s}${e}At + d];`))}
        ${each(loads, (g) => `let q${g} = q[q${g}At + d]; let g${g} = grad[q${g}At + d];`)}
        ${each(queries, (r) => `${addProducts(sharing, r, "s", "q", "k")} ${addProducts(sharing, r, "c", "g", "v")}`)}
      }
      ${problem.softCap === undefined ? "" : `for (var i = 0u; i < ${queries * sets}u; i++) { s[i] = raw(s[i]); }`}
      ${each(
        queries,
        (r) => `{ ${seenBy(row(r), sets)} let norm = ${arrives("norm", r)}; let own = ${arrives("own", r)};
        ${each(sets, (s) => {
          const place = `s[${r * sets + s}]`
          return `{ let r = ${place}; let pull = exp(fma(vec4f(factor), r, -norm)) * (c[${r * sets + s}] - own) * slope(r); ${place} = select(vec4f(), pull, seen${s}); }`
        })} }`,
      )}`,
    values: "keyHead",
    store: each(quads, (i) => `if (column${i} < D4) { dq[at * D4 + column${i}] = acc[r * ${quads}u + ${i}u]; }`),
  })
}

/** The gradient of keys and values: one subgroup takes `rows` keys of a head through the queries that see them. */
export const subgroupKeyGradient = (problem: AttentionProblem, lanes: number, rows: number): AttentionLaunch => ({
  kernel: {
    name: `attention key gradient: subgroup of ${lanes}, ${rows} rows, ${problem.heads / problem.kvHeads} heads to a key head, ${variantName(problem)}`,
    params: attentionParams,
    buffers: gradientBuffers.keys,
    subgroups: true,
    body: () => keysBody(problem, lanes, rows),
  },
  params: attentionParamsOf(problem),
  grid: [Math.ceil(problem.rows / rows), problem.kvHeads],
})

/**
 * Lanes own queries as they own keys in the other direction: columns, of which each row of queries has one per head. Keys
 * of the tile that belong to one sequence are a run.
 */
const keysBody = (problem: AttentionProblem, lanes: number, rows: number): string => {
  const sharing = sharingOf(problem.headDim, lanes)
  const { sets, quads } = sharing
  const loads = Math.ceil(rows / lanes)
  const seen = (key: number, query: string, all: (x: string) => string) =>
    `(${query} >= ${all(`(firstRow + ${key}u)`)}) & (${query} < ${all(`min(until, firstRow + ${key}u + p.window)`)})`
  const load = (e: number, column: string): string =>
    `let at${e} = itemOf(firstKey, ${column}, group.y) * D4; ${each(quads, (i) => `let q${e}_${i} = q[at${e} + x${i}]; let g${e}_${i} = grad[at${e} + x${i}];`)}`
  return `${attentionWgsl(problem, "vec4f")}
${pickWgsl}
${itemOfColumnWgsl(problem)}
${sequenceEndWgsl}
fn isWhole(column: u32, columns: u32, firstKey: u32, lastKey: u32) -> bool {
  return column % 2u == 0u && column + 1u < columns && firstKey + column / perKey >= lastKey && (column + 1u) / perKey < p.window;
}
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let firstRow = group.x * ${rows}u;
  let rowsHere = min(${rows}u, p.rows - firstRow);
  let stride = 2u * p.kvHeads * D4;
  let keyHead = group.y * D4;
  let valueHead = p.kvHeads * D4 + keyHead;
  let factor = factorOf();
  ${each(loads, (g) => `let k${g}At = min(firstRow + min(${g * lanes}u + lane, ${rows - 1}u), p.rows - 1u) * stride + keyHead; let v${g}At = k${g}At + p.kvHeads * D4;`)}
  ${ownColumns(sharing)}
  var end = 0u;
  for (var begin = 0u; begin < rowsHere; begin = end) {
    let firstKey = firstRow + begin;
    let beyond = sequenceEnd(firstKey);
    end = min(rowsHere, beyond - firstRow);
    let lastKey = firstRow + end - 1u;
    let until = min(beyond, lastKey + p.window);
    let columns = (until - firstKey) * perKey;
    var dk: array<vec4f, ${rows * quads}>; var dv: array<vec4f, ${rows * quads}>;
    ${each(rows * quads, (i) => `dk[${i}] = vec4f(); dv[${i}] = vec4f();`)}
    for (var base = 0u; base < columns; base += ${keyBlock}u) {
      ${each(sets, (s) => {
        const column = (e: number) => `first${s} + ${e}u`
        const items = (buffer: string) => `vec4f(${[0, 1, 2, 3].map((e) => `${buffer}[item${s}${e}]`).join(", ")})`
        return `let first${s} = base + 4u * (${s * lanes}u + lane);
      ${each(4, (e) => `let item${s}${e} = itemOf(firstKey, min(${column(e)}, columns - 1u), group.y); let q${s}${e}At = item${s}${e} * D4;`)}
      let queries${s} = firstKey + vec4u(${[0, 1, 2, 3].map((e) => `(${column(e)}) / perKey`).join(", ")});
      let norm${s} = ${items("lse")}; let own${s} = ${items("delta")};`
      })}
      var s: array<vec4f, ${rows * sets}>; var c: array<vec4f, ${rows * sets}>;
      ${each(rows * sets, (i) => `s[${i}] = vec4f(); c[${i}] = vec4f();`)}
      for (var d = 0u; d < p.quads; d++) {
        ${each(sets, (s) => each(4, (e) => `let q${s}${e} = q[q${s}${e}At + d]; let g${s}${e} = grad[q${s}${e}At + d];`))}
        ${each(loads, (g) => `let k${g} = kv[k${g}At + d]; let v${g} = kv[v${g}At + d];`)}
        ${each(rows, (r) => `${addProducts(sharing, r, "s", "k", "q")} ${addProducts(sharing, r, "c", "v", "g")}`)}
      }
      ${problem.softCap === undefined ? "" : `for (var i = 0u; i < ${rows * sets}u; i++) { s[i] = raw(s[i]); }`}
      ${each(rows, (r) =>
        each(sets, (s) => {
          const [weights, pulls] = [`s[${r * sets + s}]`, `c[${r * sets + s}]`]
          return `{ let isSeen = ${seen(r, `queries${s}`, (x) => `vec4u(${x})`)}; let r = ${weights}; let w = exp(fma(vec4f(factor), r, -norm${s}));
        let pull = w * (${pulls} - own${s}) * slope(r); ${weights} = select(vec4f(), w, isSeen); ${pulls} = select(vec4f(), pull, isSeen); }`
        }),
      )}
      let stop = min(base + ${keyBlock}u, columns);
      for (var column = base; column < stop;) {
        for (; isWhole(column, columns, firstKey, lastKey) && column < stop; column += 2u) {
          let four = (column - base) / 4u; let isSecond = column % 4u == 2u;
          ${each(2, (e) => load(e, `column + ${e}u`))}
          ${each(rows, (r) => `${addPair(sharing, r, "dv", "s", "g")} ${addPair(sharing, r, "dk", "c", "q")}`)}
        }
        for (; !isWhole(column, columns, firstKey, lastKey) && column < stop; column++) {
          let four = (column - base) / 4u; let component = column % 4u; let query = firstKey + column / perKey;
          ${load(0, "column")}
          ${each(rows, (r) => `{ let isSeen = ${seen(r, "query", (x) => x)}; ${addOne(sharing, r, "dv", "s", "g", "isSeen")} ${addOne(sharing, r, "dk", "c", "q", "isSeen")} }`)}
        }
      }
    }
    for (var r = begin; r < end; r++) {
      let at = (firstRow + r) * stride;
      ${each(quads, (i) => `if (column${i} < D4) { dkv[at + keyHead + column${i}] = dk[r * ${quads}u + ${i}u]; dkv[at + valueHead + column${i}] = dv[r * ${quads}u + ${i}u]; }`)}
    }
  }
}`
}
