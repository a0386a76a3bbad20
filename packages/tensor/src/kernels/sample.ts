import { showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"
import { pcg4dWgsl } from "../random/host.ts"

export interface SampleOptions {
  /** Divides the logits; 0 takes the likeliest token (the first of equals). */
  readonly temperature: number
  /** Keep the k likeliest tokens (and ties with the k-th); 0 keeps all. */
  readonly topK: number
  /** Of those, keep the smallest set of likeliest tokens whose share reaches p; 1 keeps all. */
  readonly topP: number
  /** Of those, keep tokens at least this fraction as likely as the likeliest; 0 keeps all. */
  readonly minP: number
}

/**
 * −log(e) of an exponential deviate e = −log(1 − v), v uniform in (0, 1). Likely tokens come from small e: there v keeps
 * all 32 bits of the word, and the series Σ 2sⁿ/n over odd n with s = v/(2 − v) the digits that log(1 − v) would lose.
 */
const gumbelWgsl = `
fn gumbel(word: u32) -> f32 {
  let v = min((f32(word) + 0.5) * ${2 ** -32}, 1.0 - ${2 ** -24});
  let s = v / (2.0 - v); let s2 = s * s;
  let series = 2.0 * s * (1.0 + s2 * (1.0 / 3.0 + s2 * (0.2 + s2 * (1.0 / 7.0 + s2 / 9.0))));
  return -log(select(-log(1.0 - v), series, v < 0.25));
}`

/**
 * One invocation per row. Truncation finds its threshold by bisection over the ordered bits of the logits: exact, and
 * without sorting. The draw is the argmax of logit + Gumbel noise (J. E. Gumbel, 1954), its noise a function of the
 * row's key and the token alone.
 */
const kernel = ({ temperature, topK, topP, minP }: SampleOptions): Kernel => {
  const greedy = temperature === 0
  const truncated = !greedy && (topK > 0 || topP < 1 || minP > 0)
  return {
    name: `sample${greedy ? " greedy" : ""}${truncated ? " truncated" : ""}`,
    params: {
      rows: "u32",
      vocabulary: "u32",
      inverseTemperature: "f32",
      topK: "u32",
      topP: "f32",
      logMinP: "f32",
    },
    buffers: [reads("logits"), reads("keys", "vec4u"), writes("out", "i32")],
    body: () => `${pcg4dWgsl}
${gumbelWgsl}
/** Bits whose order as integers is the order of the floats, and back. */
fn ordered(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}
fn unordered(bits: u32) -> f32 {
  return bitcast<f32>(select(~bits, bits & 0x7fffffffu, (bits >> 31u) == 1u));
}
${perItem(64, "p.rows")}
  let at = i * p.vocabulary;
  let key = keys[i];
  var top = -3.4e38; var low = 3.4e38;
  for (var k = 0u; k < p.vocabulary; k++) { top = max(top, logits[at + k]); low = min(low, logits[at + k]); }
  var threshold = -3.4e38;
  ${truncated ? truncation : ""}
  var best = -3.4e38; var chosen = 0u;
  for (var first = 0u; first < p.vocabulary; first += 4u) {
    ${greedy ? "" : "let words = pcg4d(vec4u(key.x, key.y, key.z, key.w) ^ vec4u(0u, 0u, 0u, (first / 4u + 1u) * 0x9e3779b9u));"}
    for (var j = 0u; j < 4u && first + j < p.vocabulary; j++) {
      let logit = logits[at + first + j];
      let score = ${greedy ? "logit" : "logit * p.inverseTemperature + gumbel(words[j])"};
      if (logit >= threshold && score > best) { best = score; chosen = first + j; }
    }
  }
  out[i] = i32(chosen);
}`,
  }
}

/** Sets `threshold` to the smallest logit that is kept. Each search keeps `lo` good and `hi` one past the last good. */
const truncation = `
  if (p.topK > 0u && p.topK < p.vocabulary) {
    var lo = ordered(low); var hi = ordered(top) + 1u;
    while (hi - lo > 1u) {
      let middle = lo + (hi - lo) / 2u;
      let candidate = unordered(middle);
      var count = 0u;
      for (var k = 0u; k < p.vocabulary; k++) { count += select(0u, 1u, logits[at + k] >= candidate); }
      if (count >= p.topK) { lo = middle; } else { hi = middle; }
    }
    threshold = unordered(lo);
  }
  if (p.topP < 1.0) {
    var whole = 0.0;
    for (var k = 0u; k < p.vocabulary; k++) {
      whole += select(0.0, exp((logits[at + k] - top) * p.inverseTemperature), logits[at + k] >= threshold);
    }
    var lo = ordered(max(low, threshold)); var hi = ordered(top) + 1u;
    while (hi - lo > 1u) {
      let middle = lo + (hi - lo) / 2u;
      let candidate = unordered(middle);
      var share = 0.0;
      for (var k = 0u; k < p.vocabulary; k++) {
        share += select(0.0, exp((logits[at + k] - top) * p.inverseTemperature), logits[at + k] >= candidate);
      }
      if (share >= p.topP * whole) { lo = middle; } else { hi = middle; }
    }
    threshold = max(threshold, unordered(lo));
  }
  if (p.logMinP > -3.0e38) { threshold = max(threshold, top + p.logMinP / p.inverseTemperature); }`

const sampleOp: FusedOp<SampleOptions> = {
  name: "sample",
  floats: [0],
  infer: ([logits, keys]) => {
    const [rows] = logits!.shape
    if (logits!.shape.length !== 2 || keys!.dtype !== "u32" || keys!.shape[0] !== rows || keys!.shape[1] !== 4)
      throw new ShapeError(
        "sample",
        `needs logits [N, V] and u32 keys [N, 4], got ${showShape(logits!.shape)} and ${keys!.dtype} ${showShape(keys!.shape)}`,
      )
    return [{ shape: [rows!], dtype: "i32" }]
  },
  lower: (emit, inputs, [out], options) => {
    const [rows, vocabulary] = inputs[0]!.spec.shape as [number, number]
    const { temperature, topK, topP, minP } = options
    const inverse = temperature === 0 ? 1 : 1 / temperature
    const params = [rows, vocabulary, inverse, topK, topP, minP > 0 ? Math.log(minP) : -3.4e38]
    emit.launch(kernel(options), [...inputs, out!], params, gridFor(rows, 64))
  },
}

/**
 * Draws one token per row. logits: [N, V]; keys: u32 [N, 4], the counter of each draw: equal keys draw equal numbers,
 * whatever the row or the batch. Result: i32 [N].
 */
export const sample = (logits: Tensor, keys: Tensor, options: SampleOptions): Tensor =>
  applyFusedOne(sampleOp, [logits, keys], options)
