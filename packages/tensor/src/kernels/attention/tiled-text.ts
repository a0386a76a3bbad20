import { keyBlock } from "./problem.ts"
import { components, each } from "./subgroup-text.ts"

/** WGSL of which the kernels are made that stage their operands in workgroup memory. */

/** Rows of a workgroup's tile, of which an invocation takes four: row fours number `four`. */
export const tileRows = 32
/** Invocations that share four rows: each takes every eighth column of a block, and every eighth vec4 of the head. */
export const across = 8
export const threads = (tileRows / 4) * across

export const quadsOf = (headDim: number): number => Math.ceil(headDim / 4 / across)

/** vec4s of the head that are staged at a time for products. */
const depthOf = (headDim: number): number => [4, 2, 1].find((count) => (headDim / 4) % count === 0)!

/** Columns whose values are staged at a time for the sums: as many as 8 KiB hold of wide heads. */
const stagedOf = (headDim: number): number => [8, 4, 2].find((count) => count * headDim <= 2048) ?? 1

/** Memory for what is staged, and a block of weights: of each column, four rows in a vec4. */
export const tileMemory = (headDim: number, ...weights: readonly string[]): string => `
var<workgroup> stage: array<vec4f, ${Math.max((tileRows + keyBlock) * (depthOf(headDim) + 1), stagedOf(headDim) * (headDim / 4))}>;
${weights.map((name) => `var<workgroup> ${name}: array<vec4f, ${(keyBlock * tileRows) / 4}>;`).join("\n")}`

/** The entry: `lane`, and what an invocation takes of the tile. */
export const tileEntry = `@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let four = lane / ${across}u; let column = lane % ${across}u;`

/** Where vec4 number `quad` of a row or a column of the block lies. */
export type Place = (index: string, quad: string) => string

/**
 * Declares `{name}0 … 3`: of each row of the invocation, its products with columns `column + 8 e`. A row takes one vec4 more
 * than is staged of it, against bank conflicts.
 */
export const products = (headDim: number, name: string, rows: Place, columns: Place): string => {
  const depth = depthOf(headDim)
  const columnsAt = tileRows * (depth + 1)
  const stage = (count: number, at: number, place: Place) =>
    `for (var item = lane; item < ${count * depth}u; item += ${threads}u) {
          stage[${at}u + item / ${depth}u * ${depth + 1}u + item % ${depth}u] = ${place(`(item / ${depth}u)`, `d + item % ${depth}u`)};
        }`
  return `${each(4, (row) => `var ${name}${row} = vec4f();`)}
      for (var d = 0u; d < D4; d += ${depth}u) {
        workgroupBarrier();
        ${stage(tileRows, 0, rows)}
        ${stage(keyBlock, columnsAt, columns)}
        workgroupBarrier();
        for (var i = 0u; i < ${depth}u; i++) {
          ${each(4, (e) => `let b${e} = stage[${columnsAt}u + (column + ${e * across}u) * ${depth + 1}u + i];`)}
          ${each(4, (row) => {
            const chain = components.map(
              (c) => `${name}${row} = fma(vec4f(a.${c}), vec4f(b0.${c}, b1.${c}, b2.${c}, b3.${c}), ${name}${row});`,
            )
            return `{ let a = stage[(four * 4u + ${row}u) * ${depth + 1}u + i]; ${chain.join(" ")} }`
          })}
        }
      }`
}

/** Keeps what an invocation made of its rows and columns, `{name}0 … 3`, as weights of the block. */
export const keep = (name: string, weights: string): string =>
  each(
    4,
    (e) =>
      `${weights}[(column + ${e * across}u) * ${tileRows / 4}u + four] = vec4f(${name}0[${e}], ${name}1[${e}], ${name}2[${e}], ${name}3[${e}]);`,
  )

export const declareSums = (headDim: number, sums: string): string =>
  each(4, (row) => each(quadsOf(headDim), (i) => `var ${sums}${row}_${i} = vec4f();`))

/**
 * {sums}{row}_{quad} += weight · value for `count` columns of the block in order, by each row that sees them: `isSeen` tells it
 * of `at`, the number of a column in the block.
 */
export const addValues = (
  headDim: number,
  sums: string,
  weights: string,
  count: string,
  values: Place,
  isSeen: (row: number) => string,
): string => {
  const staged = stagedOf(headDim)
  return `for (var first = 0u; first < ${count}; first += ${staged}u) {
        workgroupBarrier();
        for (var item = lane; item < ${staged}u * D4; item += ${threads}u) { stage[item] = ${values("(first + item / D4)", "item % D4")}; }
        workgroupBarrier();
        for (var i = 0u; i < ${staged}u; i++) {
          let at = first + i;
          let w = ${weights}[at * ${tileRows / 4}u + four];
          ${each(4, (row) => `let isSeen${row} = ${isSeen(row)};`)}
          ${each(quadsOf(headDim), (i) => `let v${i} = stage[i * D4 + min(column + ${i * across}u, D4 - 1u)];`)}
          ${each(4, (row) =>
            each(quadsOf(headDim), (i) => {
              const sum = `${sums}${row}_${i}`
              return `${sum} = select(${sum}, fma(vec4f(w.${components[row]}), v${i}, ${sum}), isSeen${row});`
            }),
          )}
        }
      }`
}

/** Stores the parts of a head that an invocation owns: `value` of each vec4. */
export const storeHead = (headDim: number, buffer: string, at: string, value: (quad: number) => string): string =>
  each(
    quadsOf(headDim),
    (i) => `if (column + ${i * across}u < D4) { ${buffer}[${at} + column + ${i * across}u] = ${value(i)}; }`,
  )
