import { describe, expect, test } from "vitest"
import {
  grad,
  scaledDotProductAttention,
  ShapeError,
  type DotProductAttentionOptions,
  type Tensor,
} from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { param } from "../gradient.ts"
import { expectClose, sizeOf } from "../reference.ts"
import { expectAll, type Case } from "./many.ts"

const gpu = await testDevice()

interface Setting {
  readonly q: readonly [batch: number, heads: number, queries: number, headDim: number]
  readonly kv: readonly [batch: number, heads: number, keys: number, headDim: number]
  readonly causal?: boolean
  /** [T, S], 0 or 1. */
  readonly mask?: readonly number[]
  /** [T, S], added to the scores. */
  readonly bias?: readonly number[]
  readonly scale?: number
}

/** Attention by its definition. */
const reference =
  ({ q: [B, H, T, D], kv: [, G, S], causal, mask, bias, scale = 1 / Math.sqrt(D) }: Setting) =>
  (q: Float64Array, k: Float64Array, v: Float64Array) => {
    const out = new Float64Array(B * H * T * D)
    for (let b = 0; b < B; b++)
      for (let h = 0; h < H; h++)
        for (let t = 0; t < T; t++) {
          const at = ((b * H + h) * T + t) * D
          const row = (s: number) => ((b * G + Math.floor((h * G) / H)) * S + s) * D
          const seen = Array.from({ length: S }, (_, s) => s).filter(
            (s) => (!causal || s <= t) && (!mask || mask[t * S + s] !== 0),
          )
          const scores = seen.map((s) => {
            let dot = 0
            for (let d = 0; d < D; d++) dot += q[at + d]! * k[row(s) + d]!
            return Math.exp(dot * scale + (bias?.[t * S + s] ?? 0))
          })
          const total = scores.reduce((a, x) => a + x, 0)
          seen.forEach((s, i) => {
            for (let d = 0; d < D; d++) out[at + d]! += (scores[i]! / total) * v[row(s) + d]!
          })
        }
    return out
  }

const settings: Readonly<Record<string, Setting>> = {
  "causal, fused": { q: [2, 2, 5, 4], kv: [2, 2, 5, 4], causal: true },
  "causal with grouped heads, fused": { q: [1, 4, 6, 8], kv: [1, 2, 6, 8], causal: true, scale: 0.3 },
  "causal, heads that no vec4 fits": { q: [1, 2, 4, 3], kv: [1, 2, 4, 3], causal: true },
  "everything sees everything": { q: [2, 2, 3, 4], kv: [2, 1, 5, 4] },
  "a mask": { q: [1, 2, 3, 4], kv: [1, 2, 4, 4], mask: [1, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 1] },
  "causal over more keys than queries: counted from the first": { q: [1, 2, 3, 4], kv: [1, 2, 5, 4], causal: true },
  "a bias": { q: [1, 2, 2, 4], kv: [1, 2, 3, 4], bias: [0, -1, 2, Number.NEGATIVE_INFINITY, 0, 0.5] },
  "a bias, causal and a mask too": {
    q: [1, 1, 3, 4],
    kv: [1, 1, 3, 4],
    causal: true,
    bias: [1, 2, 3, 4, 5, 6, 7, 8, 9],
    mask: [1, 1, 1, 1, 1, 0, 0, 1, 1],
  },
  "a mask, causal too": { q: [1, 1, 3, 4], kv: [1, 1, 3, 4], causal: true, mask: [1, 1, 1, 1, 1, 0, 0, 1, 1] },
}

describe("scaledDotProductAttention", () => {
  test("against its definition, with gradients of queries, keys and values", async () => {
    const cases = Object.entries(settings).map(([name, setting], i): [string, Case] => {
      const { q, kv, causal = false, mask, bias, scale } = setting
      const options = {
        causal,
        ...(scale === undefined ? {} : { scale }),
        ...(mask ? { mask: gpu.tensor(mask, [q[2], kv[2]]) } : {}),
        ...(bias ? { bias: gpu.tensor(bias, [q[2], kv[2]]) } : {}),
      }
      return [
        name,
        {
          params: [param(q, i), param(kv, i + 10), param(kv, i + 20)],
          fn: (a, b, c) => scaledDotProductAttention(a, b, c, options),
          reference: reference(setting),
        },
      ]
    })
    expect(cases.every(([, { params }]) => params.every(({ shape, data }) => sizeOf(shape) === data.length))).toBe(true)
    await expectAll(gpu, Object.fromEntries(cases))
  })

  test("a bias has a gradient, and what is to be added is no mask: then nothing is seen", async () => {
    const q = gpu.normal([1, 1, 2, 4], { seed: 1 })
    const added = gpu.tensor([0, Number.NEGATIVE_INFINITY, 0, 0], [2, 2])
    const wrong = await scaledDotProductAttention(q, q, q, { mask: added }).data()
    expect(wrong.every((value) => Number.isNaN(value))).toBe(true)
    const slope = gpu.tensor([0.5])
    const along = (by: Tensor) =>
      scaledDotProductAttention(q, q, q, { bias: by.mul(gpu.tensor([0, 1])) })
        .square()
        .sum()
    const step = 1e-2
    const [gradient, above, below] = await gpu.readAll([
      ...grad(along(slope), [slope]),
      along(slope.add(step)),
      along(slope.sub(step)),
    ])
    expectClose(gradient!, [(above![0]! - below![0]!) / (2 * step)], { abs: 1e-3, rel: 1e-2 })
  })

  test("names what does not fit", () => {
    const [q, k] = [gpu.zeros([1, 3, 4, 8]), gpu.zeros([1, 2, 4, 8])]
    expect(() => scaledDotProductAttention(q, k, k)).toThrow(ShapeError)
    expect(() => scaledDotProductAttention(q, k, k)).toThrow(/q \[1, 3, 4, 8\], k \[1, 2, 4, 8\]/)
    const seeing = (options: DotProductAttentionOptions) => () => scaledDotProductAttention(q, q, q, options)
    expect(seeing({ mask: gpu.ones([2, 1, 4, 4]) })).toThrow(
      /the mask \[2, 1, 4, 4\] does not broadcast to \[1, 3, 4, 4\]/,
    )
    expect(seeing({ bias: gpu.ones([5, 4]) })).toThrow(
      /scaledDotProductAttention: shapes \[5, 4\] and \[1, 3, 4, 4\] do not/,
    )
    expect(seeing({ bias: gpu.ones([4, 4], "i32") })).toThrow(/scaledDotProductAttention: the bias is i32: cast it/)
  })
})
