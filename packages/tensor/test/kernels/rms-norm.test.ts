import { describe, expect, test } from "vitest"
import { rmsNorm, ShapeError } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectDifferentiable, param } from "../gradient.ts"
import { expectSameBits, randomArray } from "../reference.ts"

const gpu = await testDevice()

const reference = (width: number, eps: number) => (x: Float64Array, weight: Float64Array) =>
  x.map((value, i) => {
    const row = x.subarray(i - (i % width), i - (i % width) + width)
    const meanSquare = row.reduce((sum, v) => sum + v * v, 0) / width
    return (value / Math.sqrt(meanSquare + eps)) * weight[i % width]!
  })

describe("rmsNorm", () => {
  test.each([
    [1, 1],
    [3, 5],
    [2, 64],
    [7, 66],
    [65, 8],
    [2, 131],
  ])("%i rows of %i, with gradients", async (rows, width) => {
    await expectDifferentiable(gpu, {
      params: [param([rows, width], rows, -2, 2), param([width], width, 0.5, 1.5)],
      fn: (x, weight) => rmsNorm(x, weight, 1e-5),
      reference: reference(width, 1e-5),
    })
  })

  test("eps bounds the scale of a row of zeros", async () => {
    const out = await rmsNorm(gpu.zeros([1, 4]), gpu.full([4], 1), 1e-6).data()
    expect([...out]).toEqual([0, 0, 0, 0])
  })

  test("a row has the same bits alone and among others", async () => {
    const x = randomArray(70 * 96, 1)
    const weight = gpu.tensor(randomArray(96, 2))
    const all = await rmsNorm(gpu.tensor(x, [70, 96]), weight, 1e-5).data()
    const alone = await rmsNorm(gpu.tensor(x.slice(66 * 96, 67 * 96), [1, 96]), weight, 1e-5).data()
    expectSameBits(alone, all.subarray(66 * 96, 67 * 96))
  })

  test("refuses a weight of another width", () => {
    expect(() => rmsNorm(gpu.zeros([2, 4]), gpu.zeros([5]), 1e-5)).toThrow(ShapeError)
    expect(() => rmsNorm(gpu.zeros([2, 4]), gpu.zeros([5]), 1e-5)).toThrow(/rmsNorm.*\[5\].*\[2, 4\]/)
  })
})
