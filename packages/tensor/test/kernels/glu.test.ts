import { describe, expect, test } from "vitest"
import { glu, gluLinear, linear, ShapeError, type Tensor } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectDifferentiable, param } from "../gradient.ts"
import { expectSameBits, randomArray } from "../reference.ts"

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

describe("gluLinear", () => {
  test.each([4, 6])("has the bits of the product and its gate, and gradients: width %i", async (width) => {
    const [rows, inner] = [5, 12]
    const [x, w] = [gpu.tensor(randomArray(rows * inner, 5), [rows, inner]), randomArray(2 * width * inner, 6)]
    const weight = gpu.tensor(w, [2 * width, inner])
    const [whole, apart] = await gpu.readAll([gluLinear(x, weight, "geluTanh"), glu(linear(x, weight), "geluTanh")])
    expectSameBits(whole!, apart!)
    await expectDifferentiable(gpu, {
      params: [param([3, 4], 7), param([2 * width, 4], 8)],
      fn: (a, b) => gluLinear(a, b, "geluTanh"),
      reference: (a, b) =>
        Float64Array.from({ length: 3 * width }, (_, flat) => {
          const [row, column] = [Math.floor(flat / width), flat % width]
          const at = (n: number) => [0, 1, 2, 3].reduce((sum, k) => sum + a[row * 4 + k]! * b[n * 4 + k]!, 0)
          return activations.geluTanh(at(column)) * at(column + width)
        }),
    })
  })

  test("is one launch", () => {
    const compiled = gpu.compile((x: Tensor, w: Tensor) => gluLinear(x, w, "silu"))
    expect(compiled.explain(gpu.zeros([3, 8]), gpu.zeros([16, 8])).launches).toBe(1)
  })
})

test("names what does not fit", () => {
  expect(() => glu(gpu.zeros([2, 3]), "gelu")).toThrow(ShapeError)
  expect(() => glu(gpu.zeros([2, 3]), "gelu")).toThrow(/geglu: .*\[2, 3\]/)
  expect(() => gluLinear(gpu.zeros([2, 3]), gpu.zeros([8, 4]), "gelu")).toThrow(/gluLinear: .*\[2, 3\].*\[8, 4\]/)
})
