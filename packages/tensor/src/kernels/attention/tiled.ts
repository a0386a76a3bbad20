import {
  addProduct,
  attentionBuffers,
  attentionParams,
  attentionParamsOf,
  attentionWgsl,
  gradientBuffers,
  keyBlock,
  runLengthWgsl,
  variantName,
  type AttentionLaunch,
  type AttentionProblem,
} from "./problem.ts"
import { shapeTile, type QueryTile } from "./subgroup-queries.ts"
import { each } from "./subgroup-text.ts"
import {
  addValues,
  declareSums,
  keep,
  products,
  quadsOf,
  storeHead,
  threads,
  tileEntry,
  tileMemory,
  tileRows,
} from "./tiled-text.ts"

/**
 * One workgroup makes a tile of queries of one key head (T. Dao, FlashAttention-2, 2023). It stages parts of queries and keys
 * in its memory for the scores, then values for the sums. The form for GPUs.
 */
export const tiledAttention = (problem: AttentionProblem): AttentionLaunch => {
  const tile = shapeTile(problem, tileRows)
  return {
    kernel: {
      name: `attention: tiles of ${tile.rows} rows × ${tile.parts} heads, ${variantName(problem)}`,
      params: attentionParams,
      buffers: attentionBuffers,
      body: () => forwardBody(problem, tile),
    },
    params: attentionParamsOf(problem),
    grid: [Math.ceil(problem.rows / tile.rows), problem.heads / tile.parts],
  }
}

/** The gradient of the queries: the same walk, over keys and values at once. */
export const tiledQueryGradient = (problem: AttentionProblem): AttentionLaunch => {
  const tile = shapeTile(problem, tileRows)
  return {
    kernel: {
      name: `attention query gradient: tiles of ${tile.rows} rows × ${tile.parts} heads, ${variantName(problem)}`,
      params: attentionParams,
      buffers: gradientBuffers.queries,
      body: () => gradientBody(problem, tile),
    },
    params: attentionParamsOf(problem),
    grid: [Math.ceil(problem.rows / tile.rows), problem.heads / tile.parts],
  }
}

/** What a kernel does while a tile of queries walks its keys. */
interface TileWalk {
  readonly declarations: string
  /** Before the keys of a run. */
  readonly start: string
  /** Makes `weights` of the block at `base`. */
  readonly weights: string
  readonly values: "keyHead" | "valueHead"
  /** Stores the results of a run. */
  readonly end: string
}

/** The place of a query of the tile, or of the nearest that there is. */
const queryAt =
  ({ rows, parts }: QueryTile, buffer: string) =>
  (query: string, quad: string) =>
    `${buffer}[itemOf(firstRow, min(${query}, ${rows * parts - 1}u), firstHead) * D4 + ${quad}]`

/** The place of a key of the block, or of the last that the run sees. */
const keyAt = (head: string) => (key: string, quad: string) =>
  `kv[keyRow(span, min(base + i32(${key}), last - 1)) * stride + ${head} + ${quad}]`

/** `fn main` of a workgroup that walks the keys of a tile of queries, by runs as in `queryWalk`. */
const tileWalk = (problem: AttentionProblem, { rows, parts }: QueryTile, walk: TileWalk): string => `
${attentionWgsl(problem, "vec4f")}
${tileMemory(problem.headDim, "weights")}
${walk.declarations}
${runLengthWgsl}
fn itemOf(firstRow: u32, query: u32, firstHead: u32) -> u32 {
  return min(firstRow + query / ${parts}u, p.rows - 1u) * p.heads + firstHead + query % ${parts}u;
}
${tileEntry}
  let firstRow = group.x * ${rows}u;
  let rowsHere = min(${rows}u, p.rows - firstRow);
  let firstHead = group.y * ${parts}u;
  let keyHead = firstHead / (p.heads / p.kvHeads) * D4;
  let valueHead = p.kvHeads * D4 + keyHead;
  let stride = 2u * p.kvHeads * D4;
  let factor = factorOf();
  let window = i32(p.window);
  // For what is done once per query, an invocation takes half of a block for one.
  let own = lane % ${tileRows}u; let half = lane / ${tileRows}u;
  var end = 0u;
  for (var begin = 0u; begin < rowsHere; begin = end) {
    let span = spans[firstRow + begin];
    end = begin + runLength(span, firstRow + begin, rowsHere - begin);
    let start = firstKey(span.w);
    let last = span.w + i32(end - begin) - 1;
    let ownLimit = span.w + i32(own / ${parts}u) - i32(begin);
    let ownItem = itemOf(firstRow, own, firstHead);
    let isOwn = half == 0u && own / ${parts}u >= begin && own / ${parts}u < end;
    ${each(4, (query) => `let limit${query} = span.w + i32((four * 4u + ${query}u) / ${parts}u) - i32(begin);`)}
    ${declareSums(problem.headDim, "acc")}
    ${walk.start}
    for (var base = start - start % ${keyBlock}; base < last; base += ${keyBlock}) {
      ${walk.weights}
      ${addValues(problem.headDim, "acc", "weights", `u32(min(${keyBlock}, last - base))`, keyAt(walk.values), (query) => `base + i32(at) < limit${query} && base + i32(at) >= limit${query} - window`)}
    }
    ${walk.end}
  }
}`

/** Stores what \`value\` makes of the sums of the queries that belong to the run. */
const storeRun = (
  problem: AttentionProblem,
  { parts }: QueryTile,
  buffer: string,
  value: (sum: string) => string,
): string =>
  each(
    4,
    (query) => `{ let query = four * 4u + ${query}u;
      if (query / ${parts}u >= begin && query / ${parts}u < end) {
        let at = itemOf(firstRow, query, firstHead) * D4;
        ${storeHead(problem.headDim, buffer, "at", (i) => value(`acc${query}_${i}`))}
      } }`,
  )

const forwardBody = (problem: AttentionProblem, tile: QueryTile): string =>
  tileWalk(problem, tile, {
    declarations: `var<workgroup> halves: array<f32, ${threads}>;
var<workgroup> ofQuery: array<f32, ${tileRows}>;`,
    start: "var top = lowest; var total = 0.0;",
    weights: `${products(problem.headDim, "s", queryAt(tile, "q"), keyAt("keyHead"))}
      ${each(4, (query) => `s${query} = raw(s${query});`)}
      ${keep("s", "weights")}
      workgroupBarrier();
      ${softmax}
      ${each(4, (query) => `let shrink${query} = ofQuery[four * 4u + ${query}u];`)}
      ${each(4, (query) => each(quadsOf(problem.headDim), (i) => `acc${query}_${i} *= shrink${query};`))}`,
    values: "valueHead",
    end: `workgroupBarrier();
    if (half == 0u) { ofQuery[own] = total; }
    workgroupBarrier();
    ${storeRun(problem, tile, "out", (sum) => `${sum} / ofQuery[query]`)}
    if (isOwn) { lse[ownItem] = top + log(total); }`,
  })

/** Makes weights of a block's raw scores, half of a query's in an invocation, and brings its top and total up to date. */
const softmax = `var highest = lowest;
      let firstOwn = base + i32(half) * ${keyBlock / 2};
      for (var key = max(firstOwn, ownLimit - window); key < min(firstOwn + ${keyBlock / 2}, ownLimit); key++) {
        highest = max(highest, factor * weights[u32(key - base) * ${tileRows / 4}u + own / 4u][own % 4u]);
      }
      halves[lane] = highest;
      workgroupBarrier();
      highest = max(top, max(halves[own], halves[own + ${tileRows}u]));
      let shrink = exp(top - highest);
      top = highest;
      var fours: array<f32, 4>;
      for (var i = 0; i < 4; i++) {
        var w = vec4f();
        for (var e = 0; e < 4; e++) {
          let key = firstOwn + 4 * i + e;
          let at = u32(key - base) * ${tileRows / 4}u + own / 4u;
          w[e] = select(0.0, exp(fma(factor, weights[at][own % 4u], -top)), key < ownLimit && key >= ownLimit - window);
          weights[at][own % 4u] = w[e];
        }
        fours[i] = (w.x + w.y) + (w.z + w.w);
      }
      workgroupBarrier();
      halves[lane] = (fours[0] + fours[1]) + (fours[2] + fours[3]);
      if (half == 0u) { ofQuery[own] = shrink; }
      workgroupBarrier();
      total = fma(total, shrink, halves[own] + halves[own + ${tileRows}u]);`

const gradientBody = (problem: AttentionProblem, tile: QueryTile): string =>
  tileWalk(problem, tile, {
    declarations: `var<workgroup> norms: array<f32, ${tileRows}>;
var<workgroup> deltas: array<f32, ${tileRows}>;`,
    start: `var sum = 0.0;
    for (var d = 0u; d < D4; d++) { let a = grad[ownItem * D4 + d]; let y = o[ownItem * D4 + d]; ${addProduct("sum", "a", "y")} }
    if (isOwn) { delta[ownItem] = sum; }
    workgroupBarrier();
    if (half == 0u) { norms[own] = lse[ownItem]; deltas[own] = sum; }
    workgroupBarrier();`,
    weights: `${products(problem.headDim, "s", queryAt(tile, "q"), keyAt("keyHead"))}
      ${products(problem.headDim, "c", queryAt(tile, "grad"), keyAt("valueHead"))}
      let keys = vec4i(base + i32(column)) + vec4i(0, 8, 16, 24);
      ${each(
        4,
        (query) => `{ let r = raw(s${query}); let at = four * 4u + ${query}u;
        let pull = exp(fma(vec4f(factor), r, vec4f(-norms[at]))) * (c${query} - vec4f(deltas[at])) * slope(r);
        s${query} = select(vec4f(), pull, (keys < vec4i(limit${query})) & (keys >= vec4i(limit${query} - window))); }`,
      )}
      ${keep("s", "weights")}`,
    values: "keyHead",
    end: storeRun(problem, tile, "dq", (sum) => sum),
  })
