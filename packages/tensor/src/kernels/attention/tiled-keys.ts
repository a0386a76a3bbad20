import {
  attentionParams,
  attentionParamsOf,
  attentionWgsl,
  gradientBuffers,
  keyBlock,
  variantName,
  type AttentionLaunch,
  type AttentionProblem,
} from "./problem.ts"
import { each, itemOfColumnWgsl, sequenceEndWgsl } from "./subgroup-text.ts"
import {
  across,
  addValues,
  declareSums,
  keep,
  products,
  storeHead,
  tileEntry,
  tileMemory,
  tileRows,
} from "./tiled-text.ts"
import { range } from "../matmul/problem.ts"

/** The gradient of keys and values: one workgroup takes a tile of keys of a head through the queries that see them. */
export const tiledKeyGradient = (problem: AttentionProblem): AttentionLaunch => ({
  kernel: {
    name: `attention key gradient: tiles of ${tileRows} rows, ${problem.heads / problem.kvHeads} heads to a key head, ${variantName(problem)}`,
    params: attentionParams,
    buffers: gradientBuffers.keys,
    body: () => body(problem),
  },
  params: attentionParamsOf(problem),
  grid: [Math.ceil(problem.rows / tileRows), problem.kvHeads],
})

/** Columns are queries, of which each row has one per head. Keys of the tile that belong to one sequence are a run. */
const body = (problem: AttentionProblem): string => {
  const { headDim } = problem
  const keyAt = (head: string) => (key: string, quad: string) =>
    `kv[min(firstRow + ${key}, p.rows - 1u) * stride + ${head} + ${quad}]`
  const queryAt = (buffer: string) => (column: string, quad: string) =>
    `${buffer}[itemOf(firstKey, min(base + ${column}, columns - 1u), group.y) * D4 + ${quad}]`
  const items = (text: (e: number) => string) => range(4).map(text).join(", ")
  const key = (row: number) => `(firstRow + four * 4u + ${row}u)`
  const add = (sums: string, weights: string, buffer: string) =>
    addValues(
      headDim,
      sums,
      weights,
      `min(${keyBlock}u, columns - base)`,
      queryAt(buffer),
      (row) =>
        `firstKey + (base + at) / perKey >= ${key(row)} && firstKey + (base + at) / perKey < min(until, ${key(row)} + p.window)`,
    )
  return `${attentionWgsl(problem, "vec4f")}
${itemOfColumnWgsl(problem)}
${sequenceEndWgsl}
${tileMemory(headDim, "weights", "pulls")}
${tileEntry}
  let firstRow = group.x * ${tileRows}u;
  let rowsHere = min(${tileRows}u, p.rows - firstRow);
  let stride = 2u * p.kvHeads * D4;
  let keyHead = group.y * D4;
  let valueHead = p.kvHeads * D4 + keyHead;
  let factor = factorOf();
  var end = 0u;
  for (var begin = 0u; begin < rowsHere; begin = end) {
    let firstKey = firstRow + begin;
    let beyond = sequenceEnd(firstKey);
    end = min(rowsHere, beyond - firstRow);
    let until = min(beyond, firstRow + end - 1u + p.window);
    let columns = (until - firstKey) * perKey;
    ${declareSums(headDim, "dk")}
    ${declareSums(headDim, "dv")}
    for (var base = 0u; base < columns; base += ${keyBlock}u) {
      ${products(headDim, "s", keyAt("keyHead"), queryAt("q"))}
      ${products(headDim, "c", keyAt("valueHead"), queryAt("grad"))}
      ${each(4, (e) => `let item${e} = itemOf(firstKey, min(base + column + ${e * across}u, columns - 1u), group.y);`)}
      let norm = vec4f(${items((e) => `lse[item${e}]`)}); let own = vec4f(${items((e) => `delta[item${e}]`)});
      let query = firstKey + vec4u(${items((e) => `(base + column + ${e * across}u) / perKey`)});
      ${each(
        4,
        (
          row,
        ) => `{ let r = raw(s${row}); let w = exp(fma(vec4f(factor), r, -norm)); let pull = w * (c${row} - own) * slope(r);
        let isSeen = (query >= vec4u(${key(row)})) & (query < vec4u(min(until, ${key(row)} + p.window)));
        s${row} = select(vec4f(), w, isSeen); c${row} = select(vec4f(), pull, isSeen); }`,
      )}
      ${keep("s", "weights")}
      ${keep("c", "pulls")}
      ${add("dv", "weights", "grad")}
      ${add("dk", "pulls", "q")}
    }
    ${each(
      4,
      (row) => `if (four * 4u + ${row}u >= begin && four * 4u + ${row}u < end) {
      let at = ${key(row)} * stride;
      ${storeHead(headDim, "dkv", "at + keyHead", (i) => `dk${row}_${i}`)}
      ${storeHead(headDim, "dkv", "at + valueHead", (i) => `dv${row}_${i}`)}
    }`,
    )}
  }
}`
}
