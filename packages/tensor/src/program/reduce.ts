import type { ComputeType } from "../dtype.ts"
import type { ReduceName } from "../graph/node.ts"
import { perItem, reads, writes, type Kernel } from "./kernel.ts"

/** Elements per block of a reduction: each block is folded in order, then the blocks are. */
export const reductionBlock = 64

const combine: Readonly<Record<ReduceName, (a: string, b: string) => string>> = {
  sum: (a, b) => `${a} + ${b}`,
  prod: (a, b) => `${a} * ${b}`,
  max: (a, b) => `max(${a}, ${b})`,
  min: (a, b) => `min(${a}, ${b})`,
}

/** What an empty fold gives. A parameter of the kernels, since WGSL cannot spell infinity. */
export const reductionStart = (fn: ReduceName, type: ComputeType): number => {
  if (fn === "sum") return 0
  if (fn === "prod") return 1
  const least = { f32: Number.NEGATIVE_INFINITY, i32: -(2 ** 31), u32: 0 }
  const most = { f32: Number.POSITIVE_INFINITY, i32: 2 ** 31 - 1, u32: 2 ** 32 - 1 }
  return fn === "max" ? least[type] : most[type]
}

/** What the kernel of a reduction takes before the parameters of its expression. */
export const reduceParams = (type: ComputeType) =>
  ({ items: "u32", length: "u32", inner: "u32", blocks: "u32", start: type }) as const

/**
 * Folds `value` (computed by `lines` for item `i`). One invocation per output and run of `p.blocks` blocks. Where there
 * are few outputs and many elements the caller launches one block per invocation and folds the blocks with a second
 * launch: the order is the same.
 */
export const reduceBody = (fn: ReduceName, lines: readonly string[], value: string, vector: boolean): string => {
  const of = combine[fn]
  const parts = vector ? ["x.x", "x.y", "x.z", "x.w"] : ["x"]
  return `${perItem(64, "p.items * max(1u, (p.length + p.blocks * 64u - 1u) / (p.blocks * 64u))")}
  let item = i;
  let runs = max(1u, (p.length + p.blocks * 64u - 1u) / (p.blocks * 64u));
  let which = item / runs;
  let first = (item % runs) * p.blocks * 64u;
  let end = min(first + p.blocks * 64u, p.length);
  let base = (which / p.inner) * p.length * p.inner + which % p.inner;
  var total = p.start;
  for (var block = first; block < end; block += 64u) {
    var part = p.start;
    for (var k = block; k < min(block + 64u, end); k += ${vector ? 4 : 1}u) {
      let i = ${vector ? "(base + k) / 4u" : "base + k * p.inner"};
      ${lines.join("\n      ")}
      let x = ${value};
      ${parts.map((x) => `part = ${of("part", x)};`).join(" ")}
    }
    total = ${of("total", "part")};
  }
  out[item] = total;
}`
}

/** Folds the results of the blocks, in order. */
export const combineBlocks = (fn: ReduceName, type: ComputeType): Kernel => ({
  name: `combine blocks: ${fn} ${type}`,
  params: { items: "u32", blocks: "u32", start: type },
  buffers: [reads("parts", type), writes("out", type)],
  body: () => `${perItem(64, "p.items")}
  var total = p.start;
  for (var block = 0u; block < p.blocks; block++) { total = ${combine[fn]("total", "parts[i * p.blocks + block]")}; }
  out[i] = total;
}`,
})
