import {
  attentionBuffers,
  attentionParams,
  attentionParamsOf,
  attentionWgsl,
  keyBlock,
  variantName,
  type AttentionLaunch,
  type AttentionProblem,
} from "./attention-problem.ts"
import { range } from "./matmul-problem.ts"

/** Queries that a subgroup takes together: `parts` heads, which read one key head, of each of `rows` rows. */
export interface QueryTile {
  readonly rows: number
  readonly parts: number
}

/** vec4s that the sums of a tile may take in each lane: drivers take long to compile more. */
const mostSums = 32

/**
 * The tile for a device of `lanes` lanes: as many queries as share what a lane loads at a bearable price of compiling. Rows
 * that see keys of their own (`alone`) have nothing to share with each other.
 */
export const queryTile = ({ heads, kvHeads, headDim }: AttentionProblem, lanes: number, alone: boolean): QueryTile => {
  const queries = Math.max(1, Math.min(2 * lanes, Math.floor(mostSums / quadsPerLane(headDim, lanes))))
  const perKey = heads / kvHeads
  const parts = range(Math.min(perKey, queries) + 1).findLast((count) => count > 0 && perKey % count === 0)!
  return { parts, rows: alone ? 1 : Math.floor(queries / parts) }
}

const quadsPerLane = (headDim: number, lanes: number): number => Math.ceil(headDim / 4 / lanes)

const lines = (parts: readonly string[]): string => parts.join("\n      ")

const each = (count: number, text: (index: number) => string): string => range(count).map(text).join(" ")

/** Reduces a value over all lanes, a tree of pairs: every lane gets the same bits. */
const overLanes = (lanes: number, value: string, combine: (a: string, b: string) => string): string =>
  range(Math.log2(lanes))
    .map((level) => `${value} = ${combine(value, `subgroupShuffleXor(${value}, ${2 ** level}u)`)};`)
    .join(" ")

/**
 * One subgroup makes a tile of queries without workgroup memory. For the scores lanes own keys, four neighbours each, and
 * queries travel by shuffle; for the sums lanes own parts of the head, and weights travel. The form for software Vulkan
 * drivers, for the reasons given at `subgroupMatmul`.
 */
export const subgroupAttention = (
  problem: AttentionProblem,
  lanes: number,
  { rows, parts }: QueryTile,
): AttentionLaunch => ({
  kernel: {
    name: `attention: subgroup of ${lanes}, ${rows} rows × ${parts} heads, ${variantName(problem)}`,
    params: attentionParams,
    buffers: attentionBuffers,
    subgroups: true,
    body: () => body(problem, lanes, { rows, parts }),
  },
  params: attentionParamsOf(problem),
  grid: [Math.ceil(problem.rows / rows), problem.heads / parts],
})

const body = (problem: AttentionProblem, lanes: number, { rows, parts }: QueryTile): string => {
  const queries = rows * parts
  /** Fours of keys that a lane owns in a block. */
  const sets = keyBlock / 4 / lanes
  const quads = quadsPerLane(problem.headDim, lanes)
  const loads = Math.ceil(queries / lanes)
  /** Values of the key at `position`, as `v{e}_{column}`. */
  const load = (e: number, position: string): string =>
    `let v${e}At = keyRow(span, ${position}) * stride + valueHead; ${each(quads, (i) => `let v${e}_${i} = kv[v${e}At + x${i}];`)}`
  return `${attentionWgsl(problem, "vec4f")}
// Every query of a run sees the four keys from this one on.
fn isWhole(key: i32, span: vec4i, last: i32) -> bool {
  return key % 4 == 0 && key + 3 < span.w && key >= firstKey(last);
}
fn pick(v: vec4f, component: u32) -> f32 {
  return select(select(v.x, v.y, component == 1u), select(v.z, v.w, component == 3u), component > 1u);
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
  ${each(loads, (g) => {
    const query = `min(${g * lanes}u + lane, ${queries - 1}u)`
    return `let q${g}At = (min(firstRow + ${query} / ${parts}u, p.rows - 1u) * p.heads + firstHead + ${query} % ${parts}u) * D4;`
  })}
  ${each(quads, (i) => `let column${i} = ${i * lanes}u + lane; let x${i} = min(column${i}, D4 - 1u);`)}
  var end = 0u;
  for (var begin = 0u; begin < rowsHere; begin = end) {
    let span = spans[firstRow + begin];
    end = begin + 1u;
    for (; end < rowsHere; end++) {
      let next = spans[firstRow + end];
      if (any(next != span + vec4i(0, 0, 0, i32(end - begin)))) { break; }
    }
    let start = firstKey(span.w);
    let last = span.w + i32(end - begin) - 1;
    var acc: array<vec4f, ${queries * quads}>;
    var tops: array<f32, ${queries}>;
    var totals: array<f32, ${queries}>;
    ${each(queries * quads, (i) => `acc[${i}] = vec4f();`)}
    ${each(queries, (r) => `tops[${r}] = lowest; totals[${r}] = 0.0;`)}
    for (var base = start - start % ${keyBlock}; base < last; base += ${keyBlock}) {
      ${each(sets, (s) => `let first${s} = base + 4 * i32(${s * lanes}u + lane);`)}
      ${each(sets, (s) => each(4, (e) => `let k${s}${e}At = keyRow(span, min(first${s} + ${e}, last - 1)) * stride + keyHead;`))}
      var s: array<vec4f, ${queries * sets}>;
      ${each(queries * sets, (i) => `s[${i}] = vec4f();`)}
      for (var d = 0u; d < p.quads; d++) {
        ${each(sets, (s) => each(4, (e) => `let k${s}${e} = kv[k${s}${e}At + d];`))}
        ${each(loads, (g) => `let q${g} = q[q${g}At + d];`)}
        ${lines(range(queries).map((r) => scores(r, lanes, sets)))}
      }
      ${lines(range(queries).map((r) => weights(r, Math.floor(r / parts), lanes, sets, quads)))}
      let until = min(base + ${keyBlock}, last);
      for (var key = max(base, start); key < until;) {
        for (; isWhole(key, span, last) && key < until; key += 4) {
          let four = u32(key - base) / 4u;
          ${lines(range(4).map((e) => load(e, `key + ${e}`)))}
          ${lines(range(queries).map((r) => sums(r, lanes, sets, quads)))}
        }
        for (; !isWhole(key, span, last) && key < until; key++) {
          let four = u32(key - base) / 4u; let component = u32(key) % 4u;
          ${load(0, "key")}
          ${lines(range(queries).map((r) => edgeSums(r, Math.floor(r / parts), lanes, sets, quads)))}
        }
      }
    }
    for (var r = begin * ${parts}u; r < end * ${parts}u; r++) {
      let at = (firstRow + r / ${parts}u) * p.heads + firstHead + r % ${parts}u;
      ${each(quads, (i) => `if (column${i} < D4) { out[at * D4 + column${i}] = acc[r * ${quads}u + ${i}u] / totals[r]; }`)}
      if (lane == 0u) { lse[at] = tops[r] + log(totals[r]); }
    }
  }
}`
}

const components = ["x", "y", "z", "w"]

const scores = (r: number, lanes: number, sets: number): string =>
  `{ let a = subgroupShuffle(q${Math.floor(r / lanes)}, ${r % lanes}u); ${each(sets, (s) => {
    const chain = components.map(
      (c) => `t = fma(vec4f(a.${c}), vec4f(${each(4, (e) => `k${s}${e}.${c}${e < 3 ? "," : ""}`)}), t);`,
    )
    return `{ var t = s[${r * sets + s}]; ${chain.join(" ")} s[${r * sets + s}] = t; }`
  })} }`

const limitsOf = (row: number): string => `let limit = span.w + ${row} - i32(begin); let low = limit - window;`

const weights = (r: number, row: number, lanes: number, sets: number, quads: number): string => `{ ${limitsOf(row)}
        ${each(
          sets,
          (
            s,
          ) => `let key${s} = vec4i(first${s}) + vec4i(0, 1, 2, 3); let seen${s} = (key${s} < vec4i(limit)) & (key${s} >= vec4i(low));
        let raw${s} = raw(s[${r * sets + s}]); let z${s} = select(vec4f(lowest), factor * raw${s}, seen${s});`,
        )}
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
        tops[${r}] = highest;
        ${each(quads, (i) => `{ let t = acc[${r * quads + i}] * shrink; acc[${r * quads + i}] = t; }`)} }`

/** Declares `w`, the part `pick` of the weights of the keys that the lane `four` of a set owns. */
const arriving = (r: number, lanes: number, sets: number, pick: (weights: string) => string): string =>
  sets === 1
    ? `let w = subgroupShuffle(${pick(`s[${r}]`)}, four);`
    : `let w = subgroupShuffle(${pick(`select(s[${2 * r + 1}], s[${2 * r}], four < ${lanes}u)`)}, four % ${lanes}u);`

const sums = (r: number, lanes: number, sets: number, quads: number): string =>
  `{ ${arriving(r, lanes, sets, (w) => w)} ${each(quads, (i) => {
    const chain = components.map((c, e) => `t = fma(vec4f(w.${c}), v${e}_${i}, t);`)
    return `{ var t = acc[${r * quads + i}]; ${chain.join(" ")} acc[${r * quads + i}] = t; }`
  })} }`

const edgeSums = (r: number, row: number, lanes: number, sets: number, quads: number): string =>
  `{ ${limitsOf(row)} let isSeen = key < limit && key >= low;
          ${arriving(r, lanes, sets, (w) => `pick(${w}, component)`)} ${each(quads, (i) => {
            const place = `acc[${r * quads + i}]`
            return `{ var t = ${place}; t = select(t, fma(vec4f(w), v0_${i}, t), isSeen); ${place} = t; }`
          })} }`
