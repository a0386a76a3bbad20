import { describe, expect, test } from "vitest"
import { rope, ropeTable, ShapeError, valueAndGrad } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectDifferentiable, param } from "../gradient.ts"
import { expectClose, expectSameBits, randomArray } from "../reference.ts"

const gpu = await testDevice()

const shape = { heads: 4, kvHeads: 2, headDim: 8 }
const { heads, kvHeads, headDim } = shape
const width = (heads + 2 * kvHeads) * headDim
const theta = 10_000

/** Hugging Face's `apply_rotary_pos_emb`: x · cos + rotate_half(x) · sin, angles position · theta^(−2i/d). */
const rotateHead = (x: Float64Array, position: number): Float64Array =>
  x.map((value, j) => {
    const half = headDim / 2
    const angle = position * theta ** ((-2 * (j % half)) / headDim)
    const rotated = j < half ? -x[j + half]! : x[j - half]!
    return value * Math.cos(angle) + rotated * Math.sin(angle)
  })

/** Rows of q ++ k ++ v to q and to k ++ v, all rows of q first. */
const reference = (positions: ArrayLike<number>) => (qkv: Float64Array) => {
  const rows = positions.length
  const out = new Float64Array(qkv.length)
  for (let row = 0; row < rows; row++)
    for (let head = 0; head < heads + 2 * kvHeads; head++) {
      const source = row * width + head * headDim
      const x = qkv.subarray(source, source + headDim)
      const turned = head < heads + kvHeads ? rotateHead(x, positions[row]!) : x
      const target =
        head < heads
          ? row * heads * headDim + head * headDim
          : rows * heads * headDim + row * 2 * kvHeads * headDim + (head - heads) * headDim
      out.set(turned, target)
    }
  return out
}

const table = ropeTable(gpu, { positions: 128, headDim, theta })

describe("ropeTable", () => {
  test("is transformers' table: frequencies, angles and their cosines in f32", async () => {
    const [positions, dim, base] = [300, 64, 100_000]
    const data = await ropeTable(gpu, { positions, headDim: dim, theta: base }).data()
    const { fround } = Math
    const expected = new Float32Array(positions * dim)
    for (let position = 0; position < positions; position++)
      for (let i = 0; i < dim / 2; i++) {
        // inv_freq = 1.0 / (base ** (torch.arange(0, dim, 2).float() / dim)), every step in f32
        const frequency = fround(1 / fround(base ** fround((2 * i) / dim)))
        const angle = fround(position * frequency)
        expected[position * dim + i] = Math.cos(angle)
        expected[position * dim + dim / 2 + i] = Math.sin(angle)
      }
    expectSameBits(data, expected)
  })
})

describe("rope", () => {
  const positions = [0, 1, 2, 5, 127, 0, 64]
  const ids = gpu.tensor(new Int32Array(positions))

  test("turns queries and keys and splits them from values, with gradients", async () => {
    const qkv = param([positions.length, width], 1)
    const inputs = [Float64Array.from(qkv.data)] as const
    const { q, kv } = rope(gpu.tensor(qkv.data, qkv.shape), table, ids, shape)
    const [actualQ, actualKv] = await gpu.readAll([q, kv])
    expectClose([...actualQ!, ...actualKv!], reference(positions)(...inputs), { abs: 2e-5, rel: 0 })
    await expectDifferentiable(gpu, {
      params: [qkv],
      fn: (x) => {
        const split = rope(x, table, ids, shape)
        return split.q.mul(2).add(split.kv.reshape([positions.length, 2 * kvHeads * headDim]))
      },
      reference: (x) => {
        const both = reference(positions)(x)
        const half = both.length / 2
        return both.slice(0, half).map((value, i) => 2 * value + both[half + i]!)
      },
      value: { abs: 1e-4, rel: 0 },
    })
  })

  test.each(["q", "kv"] as const)("has a gradient when only %s is used", async (name) => {
    const qkv = param([positions.length, width], 2)
    await expectDifferentiable(gpu, {
      params: [qkv],
      fn: (x) => rope(x, table, ids, shape)[name],
      reference: (x) => {
        const both = reference(positions)(x)
        return name === "q" ? both.slice(0, both.length / 2) : both.slice(both.length / 2)
      },
      value: { abs: 2e-5, rel: 0 },
    })
  })

  test("into a cache: the same bits in the rows named, all others untouched", async () => {
    const qkv = gpu.tensor(randomArray(positions.length * width, 3), [positions.length, width])
    const rows = [9, 3, 0, 1, 7, 4, 11]
    const kvWidth = 2 * kvHeads * headDim
    const before = randomArray(12 * kvWidth, 4)
    const cache = gpu.tensor(before, [12, kvWidth])
    const split = rope(qkv, table, ids, shape)
    const cached = rope(qkv, table, ids, { ...shape, cache: { cache, rows: gpu.tensor(new Int32Array(rows)) } })
    const [q, kv, q2, after] = await gpu.readAll([split.q, split.kv, cached.q, cached.kv])
    expectSameBits(q2!, q!)
    const expected = before.slice()
    rows.forEach((row, n) => expected.set(kv!.subarray(n * kvWidth, (n + 1) * kvWidth) as Float32Array, row * kvWidth))
    expectSameBits(after!, expected)
    expectSameBits(await cache.data(), expected, "cache")
  })

  test("into a cache has no gradient", () => {
    const cache = gpu.zeros([8, 2 * kvHeads * headDim])
    const at = { ...shape, cache: { cache, rows: ids } }
    expect(() => valueAndGrad((x) => rope(x, table, ids, at).q.sum(), [gpu.zeros([positions.length, width])])).toThrow(
      /rope: has no gradient/,
    )
  })

  test.each([
    ["qkv of another width", () => rope(gpu.zeros([7, width + 8]), table, ids, shape)],
    ["a table of other heads", () => rope(gpu.zeros([7, width]), gpu.zeros([128, 16]), ids, shape)],
    ["as many positions as rows", () => rope(gpu.zeros([6, width]), table, ids, shape)],
    ["positions that are integers", () => rope(gpu.zeros([7, width]), table, gpu.zeros([7]), shape)],
    [
      "cache rows for every row",
      () =>
        rope(gpu.zeros([7, width]), table, ids, {
          ...shape,
          cache: { cache: gpu.zeros([9, 32]), rows: gpu.tensor(new Int32Array(6)) },
        }),
    ],
    [
      "a cache of its own width",
      () => rope(gpu.zeros([7, width]), table, ids, { ...shape, cache: { cache: gpu.zeros([9, 16]), rows: ids } }),
    ],
  ])("insists on %s", (_, call) => {
    expect(call).toThrow(ShapeError)
    expect(call).toThrow(/rope/)
  })
})
