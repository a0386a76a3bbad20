import { describe, expect, test } from "vitest"
import { rope, ropeFrequencies, ropeTable, ShapeError, splitHeads } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectDifferentiable, param } from "../gradient.ts"
import { expectClose, expectSameBits, randomArray } from "../reference.ts"

const gpu = await testDevice()

const shape = { heads: 4, kvHeads: 2, headDim: 12 }
const { heads, kvHeads, headDim } = shape
const width = (heads + 2 * kvHeads) * headDim
const positions = [0, 3, 1, 60, 17]
const ids = gpu.tensor(new Int32Array(positions))

/**
 * transformers' partial rotation: the first `rotaryDim` dimensions of every query and key turn, those beyond and all
 * values stay. q of all rows, then k ++ v of all rows.
 */
const reference = (frequencies: ArrayLike<number>, scale: number) => (qkv: Float64Array) => {
  const half = frequencies.length
  const turned = qkv.map((value, i) => {
    const [row, column] = [Math.floor(i / width), i % width]
    const [head, j] = [Math.floor(column / headDim), column % headDim]
    if (head >= heads + kvHeads || j >= 2 * half) return value
    const angle = positions[row]! * frequencies[j % half]!
    const partner = j < half ? -qkv[i + half]! : qkv[i - half]!
    return scale * (value * Math.cos(angle) + partner * Math.sin(angle))
  })
  const rows = positions.map((_, row) => turned.subarray(row * width, (row + 1) * width))
  return Float64Array.from([
    ...rows.flatMap((row) => [...row.subarray(0, heads * headDim)]),
    ...rows.flatMap((row) => [...row.subarray(heads * headDim)]),
  ])
}

describe.each([
  ["half of each head", 6, 1],
  ["a pair of each head", 2, 1],
  ["whole heads, with a scale", 12, 1.25],
])("a table for %s", (_, rotaryDim, scale) => {
  const frequencies = ropeFrequencies(rotaryDim, 100)
  const table = ropeTable(gpu, { positions: 64, frequencies, scale })

  test.each(["q", "kv"] as const)(
    "turns those dimensions of %s and leaves the others, with gradients",
    async (pick) => {
      await expectDifferentiable(gpu, {
        params: [param([positions.length, width], 1)],
        fn: (x) => rope(x, table, ids, shape)[pick],
        reference: (x) => {
          const both = reference(frequencies, scale)(x)
          return pick === "q" ? both.slice(0, both.length / 2) : both.slice(both.length / 2)
        },
        value: { abs: 2e-5, rel: 0 },
      })
    },
  )

  test("gives the same bits into a cache", async () => {
    const qkv = gpu.tensor(randomArray(positions.length * width, 3), [positions.length, width])
    const cache = { cache: gpu.zeros([5, 2 * kvHeads * headDim]), rows: gpu.tensor(new Int32Array([0, 1, 2, 3, 4])) }
    const split = rope(qkv, table, ids, shape)
    const cached = rope(qkv, table, ids, { ...shape, cache })
    const [q, kv, q2, kv2] = await gpu.readAll([split.q, split.kv, cached.q, cached.kv])
    expectSameBits(q2!, q!)
    expectSameBits(kv2!, kv!)
  })
})

describe("splitHeads", () => {
  test.each(["q", "kv"] as const)("hands %s through, with gradients", async (pick) => {
    await expectDifferentiable(gpu, {
      params: [param([positions.length, width], 4)],
      fn: (x) => splitHeads(x, shape)[pick],
      reference: (x) => {
        const both = reference([], 1)(x)
        return pick === "q" ? both.slice(0, both.length / 2) : both.slice(both.length / 2)
      },
      value: { abs: 0, rel: 0 },
    })
  })

  test("writes keys and values into the rows of a cache", async () => {
    const data = randomArray(positions.length * width, 5)
    const rows = [4, 2, 0, 5, 1]
    const cache = gpu.full([6, 2 * kvHeads * headDim], 7)
    const qkv = gpu.tensor(data, [positions.length, width])
    const { q, kv } = splitHeads(qkv, { ...shape, cache: { cache, rows: gpu.tensor(new Int32Array(rows)) } })
    const [queries, keys] = await gpu.readAll([q, kv])
    const wide = heads * headDim
    rows.forEach((row, n) => {
      expectSameBits(queries!.subarray(n * wide, (n + 1) * wide), data.subarray(n * width, n * width + wide))
      expectSameBits(keys!.subarray(row * wide, (row + 1) * wide), data.subarray(n * width + wide, (n + 1) * width))
    })
    expect([...keys!.subarray(3 * wide, 4 * wide)]).toEqual(Array.from({ length: wide }, () => 7))
  })
})

test("a table wider than a head, or of odd width, is refused", () => {
  const qkv = gpu.zeros([5, width])
  expect(() => rope(qkv, gpu.zeros([64, 14]), ids, shape)).toThrow(ShapeError)
  expect(() => rope(qkv, gpu.zeros([64, 5]), ids, shape)).toThrow(/of even width/)
})

test("scales are rounded where transformers rounds them: after the cosine", async () => {
  const data = await ropeTable(gpu, { positions: 9, frequencies: Float32Array.of(0.3), scale: 1.19 }).data()
  const { fround } = Math
  const expected = Array.from({ length: 9 }, (_, position) => {
    const angle = fround(position * fround(0.3))
    return [fround(fround(Math.cos(angle)) * fround(1.19)), fround(fround(Math.sin(angle)) * fround(1.19))]
  }).flat()
  expectClose(data, expected, { abs: 0, rel: 0 })
})
