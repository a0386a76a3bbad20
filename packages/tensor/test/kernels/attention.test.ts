import { describe, expect, test } from "vitest"
import { attention, grad, rope, ropeTable, ShapeError, type Tensor } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectDifferentiable, param } from "../gradient.ts"
import { expectClose, expectSameBits, randomArray } from "../reference.ts"

const gpu = await testDevice()

interface Heads {
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
}
type Span = readonly [prefixBase: number, prefixLength: number, ownBase: number, keyCount: number]

/** softmax(q · kᵀ · scale) · v over the keys of each span, the textbook way. */
const reference =
  ({ heads, kvHeads, headDim }: Heads, spans: readonly Span[], scale = 1 / Math.sqrt(headDim)) =>
  (q: Float64Array, kv: Float64Array): Float64Array => {
    const out = new Float64Array(q.length)
    const stride = 2 * kvHeads * headDim
    spans.forEach(([prefixBase, prefixLength, ownBase, keyCount], row) => {
      for (let head = 0; head < heads; head++) {
        const query = (row * heads + head) * headDim
        const key = Math.floor(head / (heads / kvHeads)) * headDim
        const value = key + kvHeads * headDim
        const rows = Array.from({ length: keyCount }, (_, p) =>
          p < prefixLength ? prefixBase + p : ownBase + p - prefixLength,
        )
        const scores = rows.map((at) => {
          let dot = 0
          for (let d = 0; d < headDim; d++) dot += q[query + d]! * kv[at * stride + key + d]!
          return dot * scale
        })
        const top = Math.max(...scores)
        const weights = scores.map((score) => Math.exp(score - top))
        const total = weights.reduce((a, b) => a + b, 0)
        rows.forEach((at, p) => {
          for (let d = 0; d < headDim; d++) out[query + d]! += (weights[p]! / total) * kv[at * stride + value + d]!
        })
      }
    })
    return out
  }

/** Spans of sequences of these lengths packed one after another. */
const packed = (lengths: readonly number[]): Span[] => {
  let base = 0
  return lengths.flatMap((length) => {
    const own = base
    base += length
    return Array.from({ length }, (_, i): Span => [0, 0, own, i + 1])
  })
}

const spanTensor = (spans: readonly Span[]): Tensor => gpu.tensor(new Int32Array(spans.flat()), [spans.length, 4])

const shape: Heads = { heads: 4, kvHeads: 2, headDim: 8 }
const qWidth = shape.heads * shape.headDim
const kvWidth = 2 * shape.kvHeads * shape.headDim

describe("attention", () => {
  test.each([
    ["packed sequences of many lengths", shape, packed([1, 7, 8, 9, 3])],
    ["one key head for each query head", { heads: 3, kvHeads: 3, headDim: 4 }, packed([5, 12])],
    ["one key head for all", { heads: 4, kvHeads: 1, headDim: 8 }, packed([17])],
    ["a head of 12", { heads: 2, kvHeads: 1, headDim: 12 }, packed([2, 9])],
  ] satisfies [string, Heads, Span[]][])("%s, with gradients", async (_, heads, spans) => {
    const rows = spans.length
    await expectDifferentiable(gpu, {
      params: [
        param([rows, heads.heads * heads.headDim], 1, -2, 2),
        param([rows, 2 * heads.kvHeads * heads.headDim], 2, -2, 2),
      ],
      fn: (q, kv) => attention(q, kv, spanTensor(spans), heads),
      reference: reference(heads, spans),
    })
  })

  test("takes another scale", async () => {
    const spans = packed([6, 5])
    await expectDifferentiable(gpu, {
      params: [param([11, qWidth], 3), param([11, kvWidth], 4)],
      fn: (q, kv) => attention(q, kv, spanTensor(spans), { ...shape, scale: 0.9 }),
      reference: reference(shape, spans, 0.9),
    })
  })

  test("reads a shared prefix and own keys anywhere in the cache", async () => {
    const spans: Span[] = [
      [3, 10, 20, 13],
      [3, 10, 30, 11],
      [3, 10, 24, 10],
      [3, 10, 24, 4],
      [0, 0, 39, 1],
      [13, 1, 0, 24],
    ]
    const [q, kv] = [randomArray(6 * qWidth, 5, -3, 3), randomArray(40 * kvWidth, 6, -3, 3)]
    const out = attention(gpu.tensor(q, [6, qWidth]), gpu.tensor(kv, [40, kvWidth]), spanTensor(spans), shape)
    expectClose(await out.data(), reference(shape, spans)(Float64Array.from(q), Float64Array.from(kv)))
  })

  test("survives scores that overflow exp, and their gradient", async () => {
    const spans = packed([20])
    const [q, kv] = [randomArray(20 * qWidth, 7, -40, 40), randomArray(20 * kvWidth, 8, -40, 40)]
    const [tq, tkv] = [gpu.tensor(q, [20, qWidth]), gpu.tensor(kv, [20, kvWidth])]
    const out = attention(tq, tkv, spanTensor(spans), shape)
    const [y, ...grads] = await gpu.readAll([out, ...grad(out.sum(), [tq, tkv])])
    const expected = reference(shape, spans)(Float64Array.from(q), Float64Array.from(kv))
    // f32 scores of size 1e4 carry an error of 1e-3, which is the relative error of the weights.
    expectClose(y!, expected, { abs: 0.05, rel: 0.01 })
    for (const gradient of grads) expect([...gradient].every(Number.isFinite)).toBe(true)
  })

  test("one query alone has the same bits as in a batch, whatever row its keys lie in", async () => {
    const spans = packed([3, 21, 9])
    const rows = spans.length
    const [q, kv] = [randomArray(rows * qWidth, 9, -2, 2), randomArray(rows * kvWidth, 10, -2, 2)]
    const all = await attention(
      gpu.tensor(q, [rows, qWidth]),
      gpu.tensor(kv, [rows, kvWidth]),
      spanTensor(spans),
      shape,
    ).data()
    const row = 22 // the 20th of the second sequence, keys in rows 3 … 22
    const query = gpu.tensor(q.slice(row * qWidth, (row + 1) * qWidth), [1, qWidth])
    const alone = await attention(query, gpu.tensor(kv, [rows, kvWidth]), spanTensor([spans[row]!]), shape).data()
    expectSameBits(alone, all.subarray(row * qWidth, (row + 1) * qWidth))
    // The same keys as a prefix of 12 in one place and the rest in another.
    const moved = new Float32Array(64 * kvWidth)
    moved.set(kv.subarray(3 * kvWidth, 15 * kvWidth), 40 * kvWidth)
    moved.set(kv.subarray(15 * kvWidth, 23 * kvWidth), 5 * kvWidth)
    const split = await attention(query, gpu.tensor(moved, [64, kvWidth]), spanTensor([[40, 12, 5, 20]]), shape).data()
    expectSameBits(split, alone)
  })

  test("decoding token by token into a cache gives the bits of the packed forward", async () => {
    const lengths = [11, 6]
    const spans = packed(lengths)
    const rows = spans.length
    const width = qWidth + kvWidth
    const qkv = randomArray(rows * width, 11, -2, 2)
    const table = ropeTable(gpu, { positions: 32, headDim: shape.headDim, theta: 10_000 })
    const positions = new Int32Array(spans.map(([, , , count]) => count - 1))
    const whole = rope(gpu.tensor(qkv, [rows, width]), table, gpu.tensor(positions), shape)
    const expected = await attention(whole.q, whole.kv, spanTensor(spans), shape).data()

    // Each sequence decodes beside the other while both last; sequence s keeps its keys from row 16·s on.
    const cache = gpu.tensor(randomArray(32 * kvWidth, 12), [32, kvWidth])
    const step = gpu.compile((rowsOfQkv: Tensor, at: Tensor, cacheRows: Tensor, span: Tensor) => {
      const { q, kv } = rope(rowsOfQkv, table, at, { ...shape, cache: { cache, rows: cacheRows } })
      return attention(q, kv, span, shape)
    })
    const first = [0, lengths[0]!]
    for (let position = 0; position < Math.max(...lengths); position++) {
      const alive = [0, 1].filter((s) => position < lengths[s]!)
      const input = Float32Array.from(
        alive.flatMap((s) => [...qkv.subarray((first[s]! + position) * width, (first[s]! + position + 1) * width)]),
      )
      const out = await step(
        gpu.tensor(input, [alive.length, width]),
        gpu.tensor(Int32Array.from(alive, () => position)),
        gpu.tensor(Int32Array.from(alive, (s) => 16 * s + position)),
        spanTensor(alive.map((s) => [0, 0, 16 * s, position + 1])),
      ).data()
      alive.forEach((s, i) =>
        expectSameBits(
          out.subarray(i * qWidth, (i + 1) * qWidth),
          expected.subarray((first[s]! + position) * qWidth, (first[s]! + position + 1) * qWidth),
          `sequence ${s}, position ${position}`,
        ),
      )
    }
  })

  test("names what does not fit", () => {
    const spans = spanTensor(packed([3]))
    const call =
      (q: readonly number[], kv: readonly number[], heads = shape) =>
      () =>
        attention(gpu.zeros(q), gpu.zeros(kv), spans, heads)
    expect(call([3, qWidth + 4], [3, kvWidth])).toThrow(ShapeError)
    expect(call([3, qWidth + 4], [3, kvWidth])).toThrow(/attention: q \[3, 36\], kv \[3, 32\] and spans \[3, 4\]/)
    expect(call([3, qWidth], [3, 8])).toThrow(ShapeError)
    expect(call([4, qWidth], [4, kvWidth])).toThrow(ShapeError)
    expect(call([3, 18], [3, 36], { heads: 3, kvHeads: 3, headDim: 6 })).toThrow(/multiple of 4/)
    expect(() => attention(gpu.zeros([3, qWidth]), gpu.zeros([3, kvWidth]), gpu.zeros([3, 4]), shape)).toThrow(
      ShapeError,
    )
    const q = gpu.zeros([3, qWidth])
    expect(() => grad(attention(q, gpu.zeros([5, kvWidth]), spans, shape).sum(), [q])).toThrow(
      /every row brings its own key/,
    )
  })
})
