import { describe, expect, test } from "vitest"
import { glu, ShapeError } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectDifferentiable, param } from "../gradient.ts"
import { randomArray } from "../reference.ts"

const gpu = await testDevice()

/** ∫₀ˣ 2/√π · exp(−t²) dt by Simpson's rule. */
const erf = (x: number): number => {
  const steps = 2000
  const h = x / steps
  let sum = 1 + Math.exp(-x * x)
  for (let i = 1; i < steps; i++) sum += (i % 2 === 1 ? 4 : 2) * Math.exp(-((i * h) ** 2))
  return ((2 / Math.sqrt(Math.PI)) * sum * h) / 3
}

const activations = {
  gelu: (x: number) => (x / 2) * (1 + erf(x / Math.SQRT2)),
  geluTanh: (x: number) => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
}

describe.each(["gelu", "geluTanh"] as const)("%s", (name) => {
  const gelu = activations[name]

  test.each([
    [1, 1],
    [3, 5],
    [5, 8],
  ])("as gate of %i rows of width %i, with gradients", async (rows, width) => {
    await expectDifferentiable(gpu, {
      params: [param([rows, 2 * width], 1, -6, 6)],
      fn: (x) => glu(x, name),
      reference: (x) =>
        Float64Array.from({ length: rows * width }, (_, flat) => {
          const at = Math.floor(flat / width) * 2 * width + (flat % width)
          return gelu(x[at]!) * x[at + width]!
        }),
    })
  })

  test("alone, with gradients", async () => {
    await expectDifferentiable(gpu, {
      params: [param([4, 9], 2, -5, 5)],
      fn: (x) => x[name](),
      reference: (x) => x.map(gelu),
    })
  })

  test("far from 0 it is the identity or 0", async () => {
    const x = gpu.tensor(Float32Array.of(-1e4, -30, 30, 1e4))
    expect([...(await x[name]().data())].map((value) => value + 0)).toEqual([0, 0, 30, 1e4])
  })
})

test("erf is right to a few units in the last place, with gradients", async () => {
  const x = randomArray(64, 3, -5, 5)
  const y = await gpu.tensor(x).erf().data()
  x.forEach((value, i) => expect(Math.abs(y[i]! - erf(value))).toBeLessThan(4e-7))
  await expectDifferentiable(gpu, {
    params: [param([20], 4, -3, 3)],
    fn: (x) => x.erf(),
    reference: (x) => x.map(erf),
  })
})

test("names what does not fit", () => {
  expect(() => glu(gpu.zeros([2, 3]), "gelu")).toThrow(ShapeError)
  expect(() => glu(gpu.zeros([2, 3]), "gelu")).toThrow(/geglu: .*\[2, 3\]/)
})
