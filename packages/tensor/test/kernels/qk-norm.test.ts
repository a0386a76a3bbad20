import { describe, expect, test } from "vitest"
import { qkNorm, ShapeError, type QkNormOptions } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectDifferentiable, param } from "../gradient.ts"
import { expectSameBits, randomArray } from "../reference.ts"

const gpu = await testDevice()

const reference =
  ({ heads, kvHeads, headDim, eps, offset = 0 }: QkNormOptions) =>
  (qkv: Float64Array, qWeight: Float64Array, kWeight: Float64Array): Float64Array =>
    qkv.map((value, i) => {
      const head = Math.floor(i / headDim) % (heads + 2 * kvHeads)
      if (head >= heads + kvHeads) return value
      const whole = qkv.subarray(i - (i % headDim), i - (i % headDim) + headDim)
      const meanSquare = whole.reduce((sum, v) => sum + v * v, 0) / headDim
      const weight = (head < heads ? qWeight : kWeight)[i % headDim]!
      return (value / Math.sqrt(meanSquare + eps)) * (weight + offset)
    })

describe("qkNorm", () => {
  test.each<[string, number, QkNormOptions]>([
    ["grouped heads", 5, { heads: 4, kvHeads: 2, headDim: 8, eps: 1e-3 }],
    ["an offset", 3, { heads: 2, kvHeads: 1, headDim: 12, eps: 1e-3, offset: 1 }],
    ["more rows than a block", 70, { heads: 1, kvHeads: 1, headDim: 4, eps: 1e-3 }],
    ["heads wider than a block", 2, { heads: 1, kvHeads: 1, headDim: 68, eps: 1e-3 }],
  ])("%s, with gradients", async (_, rows, options) => {
    const { heads, kvHeads, headDim } = options
    await expectDifferentiable(gpu, {
      params: [
        param([rows, (heads + 2 * kvHeads) * headDim], 1, -2, 2),
        param([headDim], 2, 0.5, 1.5),
        param([headDim], 3, 0.5, 1.5),
      ],
      fn: (qkv, qWeight, kWeight) => qkNorm(qkv, qWeight, kWeight, options),
      reference: reference(options),
      grad: { abs: 2e-4, rel: 2e-4 },
    })
  })

  test("a row has the same bits alone and among others", async () => {
    const options = { heads: 3, kvHeads: 1, headDim: 20, eps: 1e-6 }
    const width = 100
    const data = randomArray(9 * width, 4)
    const [q, k] = [gpu.tensor(randomArray(20, 5)), gpu.tensor(randomArray(20, 6))]
    const all = await qkNorm(gpu.tensor(data, [9, width]), q, k, options).data()
    const alone = await qkNorm(gpu.tensor(data.slice(7 * width, 8 * width), [1, width]), q, k, options).data()
    expectSameBits(alone, all.subarray(7 * width, 8 * width))
  })

  test("names what does not fit", () => {
    const call = (width: number, weight: number) => () =>
      qkNorm(gpu.zeros([3, width]), gpu.zeros([weight]), gpu.zeros([8]), {
        heads: 2,
        kvHeads: 1,
        headDim: 8,
        eps: 1e-6,
      })
    expect(call(24, 8)).toThrow(ShapeError)
    expect(call(32, 4)).toThrow(/qkNorm: qkv \[3, 32\] must be \[N, 32\] and the weights \[4\] and \[8\] \[8\]/)
  })
})
