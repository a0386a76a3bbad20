import { gridFor, perItem } from "../../program/kernel.ts"
import {
  addProduct,
  attentionBuffers,
  attentionParams,
  attentionParamsOf,
  attentionWgsl,
  keyBlock,
  variantName,
  type AttentionLaunch,
  type AttentionProblem,
} from "./problem.ts"

const fours = keyBlock / 4

/** The sum of the block's weights: a tree over its fours. */
const sumOfWeights = (): string => {
  let level = Array.from({ length: fours }, (_, i) => `fourOf(weights[${i}])`)
  while (level.length > 1) level = level.flatMap((a, i) => (i % 2 === 0 ? [`(${a} + ${level[i + 1]})`] : []))
  return level[0]!
}

/** Compilers unroll loops to a constant. A software driver takes minutes to over a wide head, and gains little. */
export const isUnrolled = ({ headDim }: AttentionProblem, isSoftware: boolean): boolean => headDim <= 32 || !isSoftware

/** One invocation per query and head walks its keys by itself: for any device, and what other kernels are held against. */
export const plainAttention = (problem: AttentionProblem, isSoftware: boolean): AttentionLaunch => ({
  kernel: {
    name: `attention: plain, ${variantName(problem)}${isUnrolled(problem, isSoftware) ? ", unrolled" : ""}`,
    params: attentionParams,
    buffers: attentionBuffers,
    body: () => `${attentionWgsl(problem, "f32")}
fn fourOf(w: vec4f) -> f32 { return (w.x + w.y) + (w.z + w.w); }
${perItem(64, "p.rows * p.heads")}
  let quads = ${isUnrolled(problem, isSoftware) ? "D4" : "p.quads"};
  let row = i / p.heads; let head = i % p.heads;
  let kvHead = head / (p.heads / p.kvHeads);
  let span = spans[row];
  let stride = 2u * p.kvHeads * D4;
  let factor = factorOf();
  var query: array<vec4f, D4>; var acc: array<vec4f, D4>;
  for (var d = 0u; d < quads; d++) { query[d] = q[i * D4 + d]; acc[d] = vec4f(); }
  var top = lowest; var total = 0.0;
  let start = firstKey(span.w);
  for (var base = start - start % ${keyBlock}; base < span.w; base += ${keyBlock}) {
    let first = max(base, start);
    let last = min(base + ${keyBlock}, span.w);
    var raws: array<f32, ${keyBlock}>;
    var highest = top;
    for (var key = first; key < last; key++) {
      let at = keyRow(span, key) * stride + kvHead * D4;
      var product = 0.0;
      for (var d = 0u; d < quads; d++) { let k = kv[at + d]; ${addProduct("product", "query[d]", "k")} }
      raws[key - base] = raw(product);
      highest = max(highest, factor * raws[key - base]);
    }
    let shrink = exp(top - highest);
    top = highest;
    for (var d = 0u; d < quads; d++) { acc[d] *= shrink; }
    var weights: array<vec4f, ${fours}>;
    for (var four = 0; four < ${fours}; four++) { weights[four] = vec4f(); }
    for (var key = first; key < last; key++) {
      let weight = exp(fma(factor, raws[key - base], -top));
      weights[(key - base) / 4][(key - base) % 4] = weight;
      let at = keyRow(span, key) * stride + (p.kvHeads + kvHead) * D4;
      for (var d = 0u; d < quads; d++) { acc[d] = fma(vec4f(weight), kv[at + d], acc[d]); }
    }
    total = fma(total, shrink, ${sumOfWeights()});
  }
  for (var d = 0u; d < quads; d++) { out[i * D4 + d] = acc[d] / total; }
  lse[i] = top + log(total);
}`,
  },
  params: attentionParamsOf(problem),
  grid: gridFor(problem.rows * problem.heads, 64),
})
