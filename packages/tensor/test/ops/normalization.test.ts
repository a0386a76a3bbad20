import { describe, expect, test } from "vitest"
import { batchNorm, batchStatistics, groupNorm, ShapeError } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { param } from "../gradient.ts"
import { expectClose } from "../reference.ts"
import { expectAll } from "./many.ts"

const gpu = await testDevice()

/** Normalises the elements that `group` gives one name, and weighs them by channel. */
const normalizedBy =
  (group: (b: number, c: number) => string, [B, C, L]: readonly [number, number, number]) =>
  (x: Float64Array, weight: Float64Array, bias: Float64Array) => {
    const groups = Map.groupBy(x.keys(), (i) => group(Math.floor(i / (C * L)), Math.floor(i / L) % C))
    const out = new Float64Array(B * C * L)
    for (const indices of groups.values()) {
      const mean = indices.reduce((sum, i) => sum + x[i]!, 0) / indices.length
      const variance = indices.reduce((sum, i) => sum + (x[i]! - mean) ** 2, 0) / indices.length
      for (const i of indices) {
        const c = Math.floor(i / L) % C
        out[i] = ((x[i]! - mean) / Math.sqrt(variance + 1e-5)) * weight[c]! + bias[c]!
      }
    }
    return out
  }

describe("group norm and batch norm", () => {
  const shape = [3, 4, 5] as const
  const params = [param(shape, 1, -2, 2), param([4], 2, 0.5, 1.5), param([4], 3)]

  test("normalise what they say, with gradients", async () => {
    await expectAll(gpu, {
      groupNorm: {
        params,
        fn: (x, weight, bias) => groupNorm(x, 2, { weight, bias }),
        reference: normalizedBy((b, c) => `${b} ${c >> 1}`, shape),
        grad: { abs: 5e-4, rel: 5e-4 },
      },
      batchNorm: {
        params,
        fn: (x, weight, bias) => batchNorm(x, { weight, bias }),
        reference: normalizedBy((_, c) => `${c}`, shape),
        grad: { abs: 5e-4, rel: 5e-4 },
      },
    })
  })

  test("batch norm takes statistics from elsewhere", async () => {
    const x = gpu.tensor(params[0]!.data, shape)
    const [own, given] = await gpu.readAll([batchNorm(x), batchNorm(x, { statistics: batchStatistics(x) })])
    expectClose(given!, own!)
    const shifted = batchNorm(x, { statistics: { mean: gpu.zeros([4]), variance: gpu.full([4], 4) } })
    expectClose(
      await shifted.data(),
      params[0]!.data.map((v) => v / 2),
      { abs: 1e-5, rel: 1e-5 },
    )
  })

  test("groups must divide the channels", () => {
    expect(() => groupNorm(gpu.zeros([2, 5, 3]), 2)).toThrow(ShapeError)
  })
})
