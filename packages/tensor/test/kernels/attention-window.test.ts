import { describe, expect, test } from "vitest"
import { attention, ShapeError, type AttentionOptions, type Tensor } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectDifferentiable, param } from "../gradient.ts"
import { expectClose, expectSameBits, randomArray } from "../reference.ts"

const gpu = await testDevice()

type Span = readonly [prefixBase: number, prefixLength: number, ownBase: number, keyCount: number]

/** Every weight written out: mask of the window, tanh cap, softmax, weighted values. */
const reference =
  (
    { heads, kvHeads, headDim, scale = 1 / Math.sqrt(headDim), window = Infinity, softCap }: AttentionOptions,
    spans: readonly Span[],
  ) =>
  (q: Float64Array, kv: Float64Array): Float64Array => {
    const out = new Float64Array(q.length)
    const stride = 2 * kvHeads * headDim
    spans.forEach(([prefixBase, prefixLength, ownBase, keyCount], row) => {
      const seen = Array.from({ length: keyCount }, (_, p) => p).filter((p) => p > keyCount - 1 - window)
      const rows = seen.map((p) => (p < prefixLength ? prefixBase + p : ownBase + p - prefixLength))
      for (let head = 0; head < heads; head++) {
        const query = (row * heads + head) * headDim
        const key = Math.floor((head * kvHeads) / heads) * headDim
        const scores = rows.map((at) => {
          let product = 0
          for (let d = 0; d < headDim; d++) product += q[query + d]! * kv[at * stride + key + d]!
          return softCap === undefined ? product * scale : softCap * Math.tanh((product * scale) / softCap)
        })
        const top = Math.max(...scores)
        const weights = scores.map((score) => Math.exp(score - top))
        const total = weights.reduce((a, b) => a + b, 0)
        rows.forEach((at, i) => {
          const value = at * stride + kvHeads * headDim + key
          for (let d = 0; d < headDim; d++) out[query + d]! += (weights[i]! / total) * kv[value + d]!
        })
      }
    })
    return out
  }

const packed = (lengths: readonly number[]): Span[] => {
  let base = 0
  return lengths.flatMap((length) => {
    const own = base
    base += length
    return Array.from({ length }, (_, i): Span => [0, 0, own, i + 1])
  })
}

const spanTensor = (spans: readonly Span[]): Tensor => gpu.tensor(new Int32Array(spans.flat()), [spans.length, 4])

const shape = { heads: 4, kvHeads: 2, headDim: 8 }
const qWidth = shape.heads * shape.headDim
const kvWidth = 2 * shape.kvHeads * shape.headDim

describe("attention with a window and a soft cap", () => {
  test.each<[string, AttentionOptions, Span[]]>([
    ["a window inside one block of keys", { ...shape, window: 3 }, packed([10, 1, 5])],
    ["a window of one key: the value itself", { ...shape, window: 1 }, packed([9])],
    ["a window over several blocks", { ...shape, window: 13 }, packed([27])],
    ["a window that no sequence fills", { ...shape, window: 64 }, packed([7, 9])],
    ["a soft cap that scores reach", { ...shape, softCap: 1.5 }, packed([11, 4])],
    ["both, with a scale", { ...shape, window: 5, softCap: 2, scale: 0.9 }, packed([12, 6])],
  ])("%s, with gradients", async (_, options, spans) => {
    const rows = spans.length
    await expectDifferentiable(gpu, {
      params: [param([rows, qWidth], 1, -2, 2), param([rows, kvWidth], 2, -2, 2)],
      fn: (q, kv) => attention(q, kv, spanTensor(spans), options),
      reference: reference(options, spans),
    })
  })

  test.each([80, 128, 256])("a head of %i, with gradients", async (headDim) => {
    const options = { heads: 2, kvHeads: 1, headDim, window: 3, softCap: 5 }
    const spans = packed([4])
    await expectDifferentiable(gpu, {
      params: [param([4, 2 * headDim], 1), param([4, 2 * headDim], 2)],
      fn: (q, kv) => attention(q, kv, spanTensor(spans), options),
      reference: reference(options, spans),
    })
  })

  test("a window counts positions, whether their keys lie in a shared prefix or not", async () => {
    const spans: Span[] = [
      [3, 10, 20, 13],
      [3, 10, 20, 17],
      [3, 10, 30, 11],
      [13, 1, 0, 24],
    ]
    const options = { ...shape, window: 6 }
    const [q, kv] = [randomArray(4 * qWidth, 5, -3, 3), randomArray(40 * kvWidth, 6, -3, 3)]
    const out = attention(gpu.tensor(q, [4, qWidth]), gpu.tensor(kv, [40, kvWidth]), spanTensor(spans), options)
    expectClose(await out.data(), reference(options, spans)(Float64Array.from(q), Float64Array.from(kv)))
  })

  test.each<[string, AttentionOptions]>([
    ["window", { ...shape, window: 5 }],
    ["window and soft cap", { ...shape, window: 12, softCap: 4 }],
    ["a wide head", { heads: 2, kvHeads: 1, headDim: 128, window: 9 }],
  ])("one query alone has the bits of the packed forward: %s", async (_, options) => {
    const rows = 21
    const wide = options.heads * options.headDim
    const width = 2 * options.kvHeads * options.headDim
    const [q, kv] = [randomArray(rows * wide, 7, -2, 2), randomArray(rows * width, 8, -2, 2)]
    const spans = packed([rows])
    const keys = gpu.tensor(kv, [rows, width])
    const whole = await attention(gpu.tensor(q, [rows, wide]), keys, spanTensor(spans), options).data()
    for (const row of [0, 4, 5, 12, 20]) {
      const query = gpu.tensor(q.slice(row * wide, (row + 1) * wide), [1, wide])
      const alone = await attention(query, keys, spanTensor([spans[row]!]), options).data()
      expectSameBits(alone, whole.subarray(row * wide, (row + 1) * wide), `query ${row}`)
    }
  })

  test("a window as long as the text changes no bit", async () => {
    const [q, kv] = [gpu.normal([19, qWidth], { seed: 1 }), gpu.normal([19, kvWidth], { seed: 2 })]
    const spans = spanTensor(packed([19]))
    const [windowed, full] = await gpu.readAll([
      attention(q, kv, spans, { ...shape, window: 19 }),
      attention(q, kv, spans, shape),
    ])
    expectSameBits(windowed!, full!)
  })

  test.each([0, -1, 2.5])("refuses a window of %d keys", (window) => {
    const call = () =>
      attention(gpu.zeros([3, qWidth]), gpu.zeros([3, kvWidth]), spanTensor(packed([3])), { ...shape, window })
    expect(call).toThrow(ShapeError)
    expect(call).toThrow(/is not a positive integer/)
  })
})
