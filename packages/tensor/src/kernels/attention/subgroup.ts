import {
  attentionBuffers,
  attentionParams,
  attentionParamsOf,
  attentionWgsl,
  variantName,
  type AttentionLaunch,
  type AttentionProblem,
} from "./problem.ts"
import { queryWalk, seenBy, type QueryTile } from "./subgroup-queries.ts"
import { addProducts, each, sharingOf, type Sharing } from "./subgroup-text.ts"
import { range } from "../matmul/problem.ts"

/**
 * One subgroup makes a tile of queries without workgroup memory. For the scores lanes own keys, four neighbours each, and
 * queries travel by shuffle; for the sums lanes own parts of the head, and weights travel. The form for software Vulkan
 * drivers, for the reasons given at `subgroupMatmul`. 4 or 8 lanes.
 */
export const subgroupAttention = (problem: AttentionProblem, lanes: number, tile: QueryTile): AttentionLaunch => ({
  kernel: {
    name: `attention: subgroup of ${lanes}, ${tile.rows} rows × ${tile.parts} heads, ${variantName(problem)}`,
    params: attentionParams,
    buffers: attentionBuffers,
    subgroups: true,
    body: () => body(problem, lanes, tile),
  },
  params: attentionParamsOf(problem),
  grid: [Math.ceil(problem.rows / tile.rows), problem.heads / tile.parts],
})

const body = (problem: AttentionProblem, lanes: number, tile: QueryTile): string => {
  const sharing = sharingOf(problem.headDim, lanes)
  const { sets, quads } = sharing
  const queries = tile.rows * tile.parts
  const rescale = (r: number): string =>
    each(quads, (i) => `{ let t = acc[${r * quads + i}] * shrink; acc[${r * quads + i}] = t; }`)
  return queryWalk(sharing, tile, {
    declarations: attentionWgsl(problem, "vec4f"),
    before: "",
    start: `var tops: array<f32, ${queries}>; var totals: array<f32, ${queries}>;
    ${each(queries, (r) => `tops[${r}] = lowest; totals[${r}] = 0.0;`)}`,
    weights: `for (var d = 0u; d < p.quads; d++) {
        ${each(sets, (s) => each(4, (e) => `let k${s}${e} = kv[k${s}${e}At + d];`))}
        ${each(Math.ceil(queries / lanes), (g) => `let q${g} = q[q${g}At + d];`)}
        ${each(queries, (r) => addProducts(sharing, r, "s", "q", "k"))}
      }
      ${problem.softCap === undefined ? "" : `for (var i = 0u; i < ${queries * sets}u; i++) { s[i] = raw(s[i]); }`}
      ${each(queries, (r) => `{ ${seenBy(Math.floor(r / tile.parts), sets)} ${softmax(sharing, r)} ${rescale(r)} }`)}`,
    values: "valueHead",
    store: `${each(quads, (i) => `if (column${i} < D4) { out[at * D4 + column${i}] = acc[r * ${quads}u + ${i}u] / totals[r]; }`)}
      if (lane == 0u) { lse[at] = tops[r] + log(totals[r]); }`,
  })
}

/** Reduces a value over all lanes, a tree of pairs: every lane gets the same bits. */
const overLanes = (lanes: number, value: string, combine: (a: string, b: string) => string): string =>
  range(Math.log2(lanes))
    .map((level) => `${value} = ${combine(value, `subgroupShuffleXor(${value}, ${2 ** level}u)`)};`)
    .join(" ")

/** Makes weights of a query's raw scores, and brings its top and total up to date. Declares `shrink`. */
const softmax = ({ lanes, sets }: Sharing, r: number): string => `
        ${each(sets, (s) => `let raw${s} = s[${r * sets + s}]; let z${s} = select(vec4f(lowest), factor * raw${s}, seen${s});`)}
        let z = ${sets === 1 ? "z0" : "max(z0, z1)"};
        var highest = max(max(z.x, z.y), max(z.z, z.w));
        ${overLanes(lanes, "highest", (a, b) => `max(${a}, ${b})`)}
        let top = tops[${r}];
        highest = max(top, highest);
        let shrink = exp(top - highest);
        ${each(
          sets,
          (s) => `let w${s} = select(vec4f(), exp(fma(vec4f(factor), raw${s}, vec4f(-highest))), seen${s});
        s[${r * sets + s}] = w${s}; var sum${s} = (w${s}.x + w${s}.y) + (w${s}.z + w${s}.w);
        ${overLanes(lanes, `sum${s}`, (a, b) => `${a} + ${b}`)}`,
        )}
        totals[${r}] = fma(totals[${r}], shrink, ${sets === 1 ? "sum0" : "sum0 + sum1"});
        tops[${r}] = highest;`
