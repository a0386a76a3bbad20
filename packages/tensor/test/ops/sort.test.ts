import { describe, expect, test } from "vitest"
import { ShapeError, valueAndGrad } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { param } from "../gradient.ts"
import { expectSameBits, randomArray, randomNumbers } from "../reference.ts"
import { expectAll } from "./many.ts"

const gpu = await testDevice()

/** Indices that sort `row`, equal elements in their order. */
const order = (row: ArrayLike<number>, descending = false): number[] =>
  Array.from(row, (_, i) => i).sort((a, b) => (descending ? row[b]! - row[a]! : row[a]! - row[b]!) || a - b)

describe("sort", () => {
  test.each([1, 2, 7, 256, 257, 1000])("rows of %i, both ways, with equal elements in their order", async (length) => {
    const next = randomNumbers(length)
    const data = Float32Array.from({ length: 3 * length }, () => Math.floor(next() * length) - length / 2)
    const x = gpu.tensor(data, [3, length])
    const [up, down] = [x.sort(), x.sort(-1, { descending: true })]
    const arrays = await gpu.readAll([up.values, up.indices, down.values, down.indices])
    for (let row = 0; row < 3; row++) {
      const values = data.subarray(row * length, (row + 1) * length)
      const part = (array: ArrayLike<number>) => Array.from(array).slice(row * length, (row + 1) * length)
      const [ascending, descending] = [order(values), order(values, true)]
      expect(part(arrays[1]!)).toEqual(ascending)
      expect(part(arrays[3]!)).toEqual(descending)
      expectSameBits(
        part(arrays[0]!),
        ascending.map((i) => values[i]!),
      )
      expectSameBits(
        part(arrays[2]!),
        descending.map((i) => values[i]!),
      )
    }
  })

  test("along another axis, of whole numbers", async () => {
    const x = gpu.tensor(new Int32Array([3, -1, 2, 5, -(2 ** 31), 5]), [3, 2])
    const { values, indices } = x.sort(0)
    expect((await gpu.readAll([values, indices])).map((array) => [...array])).toEqual([
      [-(2 ** 31), -1, 2, 5, 3, 5],
      [2, 0, 1, 1, 0, 2],
    ])
    const large = gpu.tensor(new Uint32Array([2 ** 31, 1, 2 ** 32 - 1]))
    expect([...(await large.argSort().data())]).toEqual([1, 0, 2])
  })

  test("puts NaN after infinity", async () => {
    const x = gpu.tensor([Number.NaN, 1, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0])
    expect([...(await x.argSort().data())]).toEqual([3, 4, 1, 2, 0])
  })

  test("the gradient goes back to where each value came from", async () => {
    await expectAll(gpu, {
      sort: {
        params: [param([2, 5], 1)],
        fn: (x) => x.sort().values,
        reference: (x) => [...x.slice(0, 5).sort(), ...x.slice(5).sort()],
      },
      topK: {
        params: [param([6], 2)],
        fn: (x) => x.topK(2).values,
        reference: (x) => [...x].sort((a, b) => b - a).slice(0, 2),
      },
    })
  })
})

describe("topK", () => {
  test("the largest first, or the smallest", async () => {
    const x = gpu.tensor(randomArray(600, 3), [2, 300])
    const data = await x.data()
    const [top, bottom] = [x.topK(3), x.topK(2, -1, { descending: false })]
    const arrays = await gpu.readAll([top.indices, bottom.indices])
    const rows = [data.slice(0, 300), data.slice(300)]
    expect([...arrays[0]!]).toEqual(rows.flatMap((row) => order(row, true).slice(0, 3)))
    expect([...arrays[1]!]).toEqual(rows.flatMap((row) => order(row).slice(0, 2)))
  })

  test("of more than there are is refused", () => {
    for (const count of [4, -1, 1.5]) expect(() => gpu.zeros([2, 3]).topK(count)).toThrow(ShapeError)
  })

  test("of a matrix' columns", async () => {
    const x = gpu.tensor([1, 9, 5, 2, 3, 7], [3, 2])
    const { grads } = valueAndGrad((a) => a.topK(1, 0).values.sum(), [x])
    expect([...(await grads[0]!.data())]).toEqual([0, 1, 1, 0, 0, 0])
  })
})
