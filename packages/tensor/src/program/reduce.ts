import type { ComputeType } from "../dtype.ts"
import type { ReduceName } from "../graph/node.ts"
import { perItem, reads, writes, type Kernel } from "./kernel.ts"

/** So many elements are folded in order, then so many results of that, and once more; what is left is folded in order. */
export const fanIn = 64

/** Elements under the results of each level; the last level has no bound. */
const levels = [fanIn, fanIn ** 2, fanIn ** 3] as const

/** Elements from whose results on all are folded in order. */
export const widestLevel = levels[2]

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
  ({ items: "u32", length: "u32", inner: "u32", span: "u32", start: type }) as const

/**
 * Folds `value` (computed by `lines` for item `i`): one invocation per output and run of `p.span` elements, which is the reach
 * of a level or the whole length. Where there are few outputs and many elements the caller shares the elements out, and folds
 * the results by {@link combineParts}: the order is the same.
 */
export const reduceBody = (fn: ReduceName, lines: readonly string[], value: string, vector: boolean): string => {
  const of = combine[fn]
  const parts = vector ? ["x.x", "x.y", "x.z", "x.w"] : ["x"]
  /** Folds into `into` what the level below makes of the elements from `from` to `to`. */
  const fold = (level: number, into: string, from: string, to: string): string => {
    if (level < 0)
      return `for (var k = ${from}; k < ${to}; k += ${vector ? 4 : 1}u) {
      let i = ${vector ? "(base + k) / 4u" : "base + k * p.inner"};
      ${lines.join("\n      ")}
      let x = ${value};
      ${parts.map((x) => `${into} = ${of(into, x)};`).join(" ")}
    }`
    const [part, first] = [`part${level}`, `first${level}`]
    return `for (var ${first} = ${from}; ${first} < ${to}; ${first} += ${levels[level]}u) {
    var ${part} = p.start;
    ${fold(level - 1, part, first, `min(${first} + ${levels[level]}u, ${to})`)}
    ${into} = ${of(into, part)};
  }`
  }
  return `${perItem(64, "p.items * max(1u, (p.length + p.span - 1u) / p.span)")}
  let runs = max(1u, (p.length + p.span - 1u) / p.span);
  let which = i / runs;
  let first = (i % runs) * p.span;
  let end = min(first + p.span, p.length);
  let base = (which / p.inner) * p.length * p.inner + which % p.inner;
  var total = p.start;
  ${fold(levels.length - 1, "total", "first", "end")}
  out[i] = total;
}`
}

/** Folds `p.group` neighbouring ones of each item's `p.parts` results, in order. */
export const combineParts = (fn: ReduceName, type: ComputeType): Kernel => ({
  name: `combine parts: ${fn} ${type}`,
  params: { items: "u32", parts: "u32", group: "u32", start: type },
  buffers: [reads("parts", type), writes("out", type)],
  body: () => `${perItem(64, "p.items * ((p.parts + p.group - 1u) / p.group)")}
  let results = (p.parts + p.group - 1u) / p.group;
  let item = i / results; let first = (i % results) * p.group;
  var total = p.start;
  for (var k = first; k < min(first + p.group, p.parts); k++) { total = ${combine[fn]("total", "parts[item * p.parts + k]")}; }
  out[i] = total;
}`,
})
