import { showShape, sizeOf, type Shape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Spec } from "../graph/node.ts"
import type { Tensor } from "../graph/tensor.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"
import { checkShape } from "../ops/axes.ts"
import { pcg4dWgsl, streams, unitWgsl } from "../random/host.ts"

export type Distribution = "bits" | "uniform" | "normal" | "integers"

/** Four elements an invocation, from the four words of one counter. `a` and `b` are the distribution's parameters. */
const kernel = (distribution: Distribution): Kernel => {
  const element = { bits: "u32", uniform: "f32", normal: "f32", integers: "i32" }[distribution]
  const draw = {
    bits: "let drawn = words;",
    uniform: "let drawn = p.a + (p.b - p.a) * vec4f(unit(words.x), unit(words.y), unit(words.z), unit(words.w));",
    // Box–Muller, as on the host.
    normal: `let radius = p.b * sqrt(-2.0 * log(vec2f(unit(words.x), unit(words.z))));
  let angle = ${2 * Math.PI} * vec2f(unit(words.y), unit(words.w));
  let drawn = p.a + vec4f(radius.x * cos(angle.x), radius.x * sin(angle.x), radius.y * cos(angle.y), radius.y * sin(angle.y));`,
    // The upper word of word · count: every number is as likely as any, to one part in 2³². A count of 2³² is told as 0.
    integers: `let high = words >> vec4u(16u); let low = words & vec4u(0xffffu);
  let countHigh = p.count >> 16u; let countLow = p.count & 0xffffu;
  let middle = high * countLow + ((low * countLow) >> vec4u(16u));
  let carry = low * countHigh + (middle & vec4u(0xffffu));
  let upper = high * countHigh + (middle >> vec4u(16u)) + (carry >> vec4u(16u));
  let drawn = vec4i(select(upper, words, p.count == 0u)) + vec4i(p.first);`,
  }[distribution]
  return {
    name: `random ${distribution}`,
    params: { size: "u32", stream: "u32", a: "f32", b: "f32", first: "i32", count: "u32" },
    buffers: [reads("key", "u32"), writes("out", element)],
    body: () => `${pcg4dWgsl}${unitWgsl}
${perItem(64, "(p.size + 3u) / 4u")}
  let words = pcg4d(vec4u(key[0], key[1], i, p.stream));
  ${draw}
  for (var j = 0u; j < min(4u, p.size - i * 4u); j++) { out[i * 4u + j] = drawn[j]; }
}`,
  }
}

interface Attributes {
  readonly distribution: Distribution
  readonly shape: Shape
  readonly a: number
  readonly b: number
}

/** Refuses what is no key. */
const checkKey = (operation: string, key: Spec): void => {
  if (key.dtype !== "u32" || sizeOf(key.shape) !== 2)
    throw new ShapeError(
      operation,
      `a key is u32 [2], not ${key.dtype} ${showShape(key.shape)}: make one with random.key`,
    )
}

const randomOp: FusedOp<Attributes> = {
  name: "random",
  infer: ([key], { distribution, shape }) => {
    checkKey(`random.${distribution}`, key!)
    return [{ shape, dtype: distribution === "bits" ? "u32" : distribution === "integers" ? "i32" : "f32" }]
  },
  lower: (emit, [key], [out], { distribution, shape, a, b }) => {
    const size = sizeOf(shape)
    const whole = distribution === "integers"
    const params = whole ? [0, 0, a, (b - a) % 2 ** 32] : [a, b, 0, 0]
    emit.launch(kernel(distribution), [key!, out!], [size, streams[distribution], ...params], gridFor(size, 256))
  },
}

/** Independent draws from the counters 0, 1, … of `key` (u32 [2]). */
export const draw = (key: Tensor, distribution: Distribution, shape: Shape, a = 0, b = 1): Tensor => {
  checkShape(`random.${distribution}`, shape)
  return applyFusedOne(randomOp, [key], { distribution, shape, a, b })
}

const deriveKeys: Kernel = {
  name: "random keys",
  params: { items: "u32", stream: "u32" },
  buffers: [reads("key", "u32"), reads("data", "u32"), writes("out", "u32")],
  body: () => `${pcg4dWgsl}
${perItem(64, "p.items")}
  let words = pcg4d(vec4u(key[0], key[1], data[i], p.stream));
  out[i * 2u] = words.x; out[i * 2u + 1u] = words.y;
}`,
}

const keysOp: FusedOp<"keys" | "folds"> = {
  name: "random keys",
  infer: ([key, data], stream) => {
    checkKey(stream === "keys" ? "random.split" : "random.fold", key!)
    if (data!.dtype !== "u32") throw new ShapeError("random.fold", `what is folded in must be u32, not ${data!.dtype}`)
    return [{ shape: [sizeOf(data!.shape), 2], dtype: "u32" }]
  },
  lower: (emit, [key, data], [out], stream) => {
    const [items] = out!.spec.shape as [number]
    emit.launch(deriveKeys, [key!, data!, out!], [items, streams[stream]], gridFor(items, 64))
  },
}

/** A key for each word of `data` (u32) in a stream: [words, 2]. */
export const keysFrom = (key: Tensor, data: Tensor, stream: "keys" | "folds"): Tensor =>
  applyFusedOne(keysOp, [key, data], stream)

/** Keeps an element where its number is at least p. The gradient goes the same way, so no mask is kept. */
const dropKernel: Kernel = {
  name: "dropout",
  params: { size: "u32", stream: "u32", rate: "f32", scale: "f32" },
  buffers: [reads("x"), reads("key", "u32"), writes("out")],
  body: () => `${pcg4dWgsl}${unitWgsl}
${perItem(64, "(p.size + 3u) / 4u")}
  let words = pcg4d(vec4u(key[0], key[1], i, p.stream));
  for (var j = 0u; j < min(4u, p.size - i * 4u); j++) {
    let at = i * 4u + j;
    out[at] = select(0.0, x[at] * p.scale, unit(words[j]) >= p.rate);
  }
}`,
}

const dropoutOp: FusedOp<{ readonly rate: number }> = {
  name: "dropout",
  infer: ([x, key]) => {
    checkKey("dropout", key!)
    if (x!.dtype !== "f32") throw new ShapeError("dropout", `needs f32, got ${x!.dtype}`)
    return [x!]
  },
  lower: (emit, [x, key], [out], { rate }) => {
    const size = sizeOf(x!.spec.shape)
    emit.launch(dropKernel, [x!, key!, out!], [size, streams.uniform, rate, 1 / (1 - rate)], gridFor(size, 256))
  },
  backward: ({ inputs: [, key], grads: [g], attributes }) => [applyFusedOne(dropoutOp, [g!, key!], attributes)],
}

/**
 * 0 with probability `rate`, x / (1 − rate) otherwise (N. Srivastava et al., 2014): the mask is
 * `random.uniform(key, x.shape) ≥ rate`. Give every call a key of its own.
 */
export const dropout = (x: Tensor, key: Tensor, rate: number): Tensor => {
  if (!(rate >= 0 && rate < 1)) throw new ShapeError("dropout", `the rate must be in [0, 1), not ${rate}`)
  return rate === 0 ? x : applyFusedOne(dropoutOp, [x, key], { rate })
}
