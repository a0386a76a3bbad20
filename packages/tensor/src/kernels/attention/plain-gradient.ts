import { gridFor, perItem } from "../../program/kernel.ts"
import { isUnrolled } from "./plain.ts"
import {
  addProduct,
  attentionParams,
  attentionParamsOf,
  attentionWgsl,
  gradientBuffers,
  variantName,
  type AttentionLaunch,
  type AttentionProblem,
} from "./problem.ts"

const boundOf = (problem: AttentionProblem, isSoftware: boolean): string =>
  isUnrolled(problem, isSoftware) ? "D4" : "p.quads"

const nameOf = (what: string, problem: AttentionProblem, isSoftware: boolean): string =>
  `${what}: plain, ${variantName(problem)}${isUnrolled(problem, isSoftware) ? ", unrolled" : ""}`

/** One invocation per query and head walks its keys: see `attentionGradient` for what it makes. */
export const plainQueryGradient = (problem: AttentionProblem, isSoftware: boolean): AttentionLaunch => ({
  kernel: {
    name: nameOf("attention query gradient", problem, isSoftware),
    params: attentionParams,
    buffers: gradientBuffers.queries,
    body: () => `${attentionWgsl(problem, "f32")}
${perItem(64, "p.rows * p.heads")}
  let quads = ${boundOf(problem, isSoftware)};
  let row = i / p.heads; let head = i % p.heads;
  let kvHead = head / (p.heads / p.kvHeads);
  let span = spans[row];
  let stride = 2u * p.kvHeads * D4;
  let factor = factorOf();
  var query: array<vec4f, D4>; var g: array<vec4f, D4>; var acc: array<vec4f, D4>;
  var own = 0.0;
  for (var d = 0u; d < quads; d++) {
    query[d] = q[i * D4 + d]; g[d] = grad[i * D4 + d]; acc[d] = vec4f();
    let y = o[i * D4 + d]; ${addProduct("own", "g[d]", "y")}
  }
  let norm = lse[i];
  for (var key = firstKey(span.w); key < span.w; key++) {
    let kAt = keyRow(span, key) * stride + kvHead * D4;
    let vAt = kAt + p.kvHeads * D4;
    var product = 0.0; var change = 0.0;
    for (var d = 0u; d < quads; d++) { let k = kv[kAt + d]; ${addProduct("product", "query[d]", "k")} }
    for (var d = 0u; d < quads; d++) { let v = kv[vAt + d]; ${addProduct("change", "g[d]", "v")} }
    let r = raw(product);
    let pull = exp(fma(factor, r, -norm)) * (change - own) * slope(r);
    for (var d = 0u; d < quads; d++) { acc[d] = fma(vec4f(pull), kv[kAt + d], acc[d]); }
  }
  for (var d = 0u; d < quads; d++) { dq[i * D4 + d] = acc[d]; }
  delta[i] = own;
}`,
  },
  params: attentionParamsOf(problem),
  grid: gridFor(problem.rows * problem.heads, 64),
})

/** One invocation per key row and key head walks the queries that see it, from its own row on. */
export const plainKeyGradient = (problem: AttentionProblem, isSoftware: boolean): AttentionLaunch => ({
  kernel: {
    name: nameOf("attention key gradient", problem, isSoftware),
    params: attentionParams,
    buffers: gradientBuffers.keys,
    body: () => `${attentionWgsl(problem, "f32")}
${perItem(64, "p.rows * p.kvHeads")}
  let quads = ${boundOf(problem, isSoftware)};
  let row = i / p.kvHeads; let kvHead = i % p.kvHeads;
  let perKey = p.heads / p.kvHeads;
  let stride = 2u * p.kvHeads * D4;
  let kAt = row * stride + kvHead * D4;
  let vAt = kAt + p.kvHeads * D4;
  let factor = factorOf();
  var k: array<vec4f, D4>; var v: array<vec4f, D4>; var dk: array<vec4f, D4>; var dv: array<vec4f, D4>;
  for (var d = 0u; d < quads; d++) { k[d] = kv[kAt + d]; v[d] = kv[vAt + d]; dk[d] = vec4f(); dv[d] = vec4f(); }
  let start = spans[row].z;
  for (var other = row; other < min(p.rows, row + p.window); other++) {
    if (spans[other].z != start) { break; }
    for (var part = 0u; part < perKey; part++) {
      let query = other * p.heads + kvHead * perKey + part;
      let at = query * D4;
      var product = 0.0; var change = 0.0;
      for (var d = 0u; d < quads; d++) { let a = q[at + d]; ${addProduct("product", "a", "k[d]")} }
      for (var d = 0u; d < quads; d++) { let a = grad[at + d]; ${addProduct("change", "a", "v[d]")} }
      let r = raw(product);
      let weight = exp(fma(factor, r, -lse[query]));
      let pull = weight * (change - delta[query]) * slope(r);
      for (var d = 0u; d < quads; d++) {
        dk[d] = fma(vec4f(pull), q[at + d], dk[d]);
        dv[d] = fma(vec4f(weight), grad[at + d], dv[d]);
      }
    }
  }
  for (var d = 0u; d < quads; d++) { dkv[kAt + d] = dk[d]; dkv[vAt + d] = dv[d]; }
}`,
  },
  params: attentionParamsOf(problem),
  grid: gridFor(problem.rows * problem.kvHeads, 64),
})
