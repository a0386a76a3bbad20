import { describe, expect, test } from "vitest"
import { ShapeError, swiglu } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectDifferentiable, param } from "../gradient.ts"

const gpu = await testDevice()

describe("swiglu", () => {
  test.each([
    [1, 1],
    [3, 5],
    [9, 16],
  ])("silu(gate) · up for %i rows of width %i, with gradients", async (rows, width) => {
    await expectDifferentiable(gpu, {
      params: [param([rows, 2 * width], 1, -6, 6)],
      fn: swiglu,
      reference: (x) =>
        Float64Array.from({ length: rows * width }, (_, flat) => {
          const at = Math.floor(flat / width) * 2 * width + (flat % width)
          return (x[at]! / (1 + Math.exp(-x[at]!))) * x[at + width]!
        }),
    })
  })

  test("gates far from 0 stay finite", async () => {
    const out = await swiglu(gpu.tensor([-200, 200, 3, 3], [1, 4])).data()
    expect([...out]).toEqual([-0, 600])
  })

  test("names what does not fit", () => {
    expect(() => swiglu(gpu.zeros([2, 3]))).toThrow(ShapeError)
    expect(() => swiglu(gpu.zeros([2, 3]))).toThrow(/swiglu: .*\[2, 3\]/)
  })
})
