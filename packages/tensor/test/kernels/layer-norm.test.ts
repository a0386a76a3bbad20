import { describe, expect, test } from "vitest"
import { layerNorm, rmsNorm, ShapeError } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectDifferentiable, param } from "../gradient.ts"
import { expectSameBits, randomArray } from "../reference.ts"

const gpu = await testDevice()

const reference = (width: number, eps: number) => (x: Float64Array, weight: Float64Array, bias: Float64Array) =>
  x.map((value, i) => {
    const row = x.subarray(i - (i % width), i - (i % width) + width)
    const mean = row.reduce((sum, v) => sum + v, 0) / width
    const variance = row.reduce((sum, v) => sum + (v - mean) ** 2, 0) / width
    return ((value - mean) / Math.sqrt(variance + eps)) * weight[i % width]! + bias[i % width]!
  })

describe("layerNorm", () => {
  test.each([
    [1, 2],
    [3, 5],
    [2, 64],
    [7, 66],
    [65, 8],
    [2, 131],
  ])("%i rows of %i, with gradients", async (rows, width) => {
    await expectDifferentiable(gpu, {
      params: [param([rows, width], rows, -2, 2), param([width], width, 0.5, 1.5), param([width], 3)],
      fn: (x, weight, bias) => layerNorm(x, weight, bias, 1e-3),
      reference: reference(width, 1e-3),
      value: { abs: 1e-5, rel: 1e-4 },
      grad: { abs: 5e-4, rel: 5e-4 },
    })
  })

  test("a mean far from zero costs no digits of the variance", async () => {
    const x = Float32Array.of(4096, 4097, 4098, 4099)
    const out = await layerNorm(gpu.tensor(x, [1, 4]), gpu.full([4], 1), gpu.zeros([4]), 0).data()
    expect([...out]).toEqual([-3, -1, 1, 3].map((value) => expect.closeTo(value / Math.sqrt(5), 5)))
  })

  test("a row has the same bits alone and among others", async () => {
    const x = randomArray(70 * 96, 1)
    const [weight, bias] = [gpu.tensor(randomArray(96, 2)), gpu.tensor(randomArray(96, 3))]
    const all = await layerNorm(gpu.tensor(x, [70, 96]), weight, bias, 1e-5).data()
    const alone = await layerNorm(gpu.tensor(x.slice(66 * 96, 67 * 96), [1, 96]), weight, bias, 1e-5).data()
    expectSameBits(alone, all.subarray(66 * 96, 67 * 96))
  })

  test("refuses a weight or a bias of another width", () => {
    const call = (weight: number, bias: number) => () =>
      layerNorm(gpu.zeros([2, 4]), gpu.zeros([weight]), gpu.zeros([bias]), 1e-5)
    expect(call(5, 4)).toThrow(ShapeError)
    expect(call(4, 3)).toThrow(/layerNorm.*\[4\] and bias \[3\] do not fit rows of \[2, 4\]/)
  })
})

test("rmsNorm adds an offset to its weight, with gradients", async () => {
  const width = 70
  await expectDifferentiable(gpu, {
    params: [param([5, width], 1, -2, 2), param([width], 2, -0.5, 0.5)],
    fn: (x, weight) => rmsNorm(x, weight, 1e-5, 1),
    reference: (x, weight) =>
      x.map((value, i) => {
        const row = x.subarray(i - (i % width), i - (i % width) + width)
        const meanSquare = row.reduce((sum, v) => sum + v * v, 0) / width
        return (value / Math.sqrt(meanSquare + 1e-5)) * (1 + weight[i % width]!)
      }),
  })
})
