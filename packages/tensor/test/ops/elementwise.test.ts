import { describe, expect, test } from "vitest"
import { ShapeError, valueAndGrad, type Tensor } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { param } from "../gradient.ts"
import { dense, expectClose, map, randomArray } from "../reference.ts"
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from "../../src/io/half.ts"
import { expectAll, type Case } from "./many.ts"

const gpu = await testDevice()

/** erf by the trapezoidal rule: exact to float64 for so smooth a function. */
const erf = (x: number) => {
  const steps = 400
  const f = (t: number) => Math.exp(-t * t)
  let sum = (f(0) + f(x)) / 2
  for (let i = 1; i < steps; i++) sum += f((x * i) / steps)
  const h = x / steps
  // First Euler–Maclaurin correction: f′(t) = −2t·f(t).
  return (2 / Math.sqrt(Math.PI)) * (h * sum + ((h * h) / 12) * (2 * x * f(x)))
}

type Unary = readonly [fn: (x: Tensor) => Tensor, reference: (x: number) => number, low: number, high: number]

const smooth: Readonly<Record<string, Unary>> = {
  expm1: [(x) => x.expm1(), Math.expm1, -2, 2],
  log1p: [(x) => x.log1p(), Math.log1p, -0.8, 3],
  erf: [(x) => x.erf(), erf, -3, 3],
  leakyRelu: [(x) => x.leakyRelu(0.2), (x) => (x > 0 ? x : 0.2 * x), -2, 2],
  elu: [(x) => x.elu(1.5), (x) => (x > 0 ? x : 1.5 * Math.expm1(x)), -3, 3],
  softplus: [(x) => x.softplus(), (x) => Math.log1p(Math.exp(x)), -5, 5],
  gelu: [(x) => x.gelu(), (x) => (x / 2) * (1 + erf(x / Math.SQRT2)), -3, 3],
  "pow: square": [(x) => x.pow(2), (x) => x ** 2, -2, 2],
  "pow: cube of either sign": [(x) => x.pow(3), (x) => x ** 3, -2, 2],
  "pow: whole negative": [(x) => x.pow(-3), (x) => x ** -3, -2, -0.5],
  "pow: fraction": [(x) => x.pow(1.7), (x) => x ** 1.7, 0.3, 2],
  clamp: [(x) => x.clamp(-1, 0.5), (x) => Math.min(Math.max(x, -1), 0.5), -2, 2],
}

describe("element-wise operations of one operand", () => {
  test("that WGSL lacks, against their definitions, with gradients", async () => {
    const cases = Object.entries(smooth).map(([name, [fn, reference, low, high]], i): [string, Case] => [
      name,
      {
        params: [param([3, 7], i + 1, low, high)],
        fn,
        reference: (x) => x.map(reference),
        grad: { abs: 2e-4, rel: 2e-4 },
      },
    ])
    await expectAll(gpu, Object.fromEntries(cases))
  })

  test("steps, whose gradient is zero", async () => {
    const x = gpu.tensor([-2.5, -1.5, -0.7, -0.5, 0, 0.5, 0.7, 1.5, 2.5, 3])
    const { grads } = valueAndGrad(
      (a) => a.floor().add(a.ceil()).add(a.round()).add(a.trunc()).add(a.sign()).sum(),
      [x],
    )
    const results = await gpu.readAll([x.floor(), x.ceil(), x.round(), x.trunc(), x.sign(), ...grads])
    expect(results.map((array) => [...array].map((v) => v + 0))).toEqual([
      [-3, -2, -1, -1, 0, 0, 0, 1, 2, 3],
      [-2, -1, 0, 0, 0, 1, 1, 2, 3, 3],
      [-2, -2, -1, 0, 0, 0, 1, 2, 2, 3],
      [-2, -1, 0, 0, 0, 0, 0, 1, 2, 3],
      [-1, -1, -1, -1, 0, 1, 1, 1, 1, 1],
      [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ])
  })

  test("keep their digits near zero", async () => {
    const x = new Float32Array([1e-7, -3e-6, 2e-4, -0.01, 0.3])
    const input = gpu.tensor(x)
    const [log1p, expm1, erfs] = await gpu.readAll([input.log1p(), input.expm1(), input.erf()])
    const relative = { abs: 0, rel: 1e-6 }
    expectClose(log1p!, [...x].map(Math.log1p), relative, "log1p")
    expectClose(expm1!, [...x].map(Math.expm1), relative, "expm1")
    expectClose(erfs!, [...x].map(erf), relative, "erf")
  })

  test("saturate without overflow", async () => {
    const x = gpu.tensor([-1000, -100, 100, 1000])
    const outputs = [x.sigmoid(), x.tanh(), x.silu(), x.softplus(), x.gelu(), x.geluTanh(), x.erf(), x.elu()]
    const results = await gpu.readAll(outputs)
    expect(results.map((array) => [...array].map((v) => v + 0))).toEqual([
      [0, 0, 1, 1],
      [-1, -1, 1, 1],
      [0, 0, 100, 1000],
      [0, 0, 100, 1000],
      [0, 0, 100, 1000],
      [0, 0, 100, 1000],
      [-1, -1, 1, 1],
      [-1, -1, 100, 1000],
    ])
  })

  test("tell numbers from what is none", async () => {
    const x = gpu.tensor([0, -1, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])
    const [nan, finite] = await gpu.readAll([x.isNaN(), x.isFinite()])
    expect([...nan!]).toEqual([0, 0, 1, 0, 0])
    expect([...finite!]).toEqual([1, 1, 0, 0, 0])
  })
})

describe("element-wise operations of two operands", () => {
  test("numbers stand for tensors, and constants need no kernel", async () => {
    const x = gpu.tensor([1, 2])
    expect([...(await x.mul(3).sub(1).data())]).toEqual([2, 5])
    expect(await gpu.constant(2).pow(10).add(1).item()).toBe(1025)
  })

  test("powers of negative bases: whole exponents only", async () => {
    const base = gpu.tensor([-2, -2, -2, 0, 0, 0, 2])
    const exponent = gpu.tensor([3, -2, 0.5, 0, 2, -1, 0])
    const result = [...(await base.pow(exponent).data())]
    expectClose(result.toSpliced(2, 1), [-8, 0.25, 1, 0, Number.POSITIVE_INFINITY, 1])
    expect(result[2]).toBeNaN()
  })
})

test("a chain as long as a recurrent network is computed and differentiated", async () => {
  const { value, grads } = valueAndGrad(
    (x) => {
      let h = x!
      for (let i = 0; i < 4000; i++) h = i % 2 === 0 ? h.add(1) : h.sub(1)
      return h.sum()
    },
    [gpu.tensor([1, 2])],
  )
  const [total, gradient] = await gpu.readAll([value, ...grads])
  expect([...total!, ...gradient!]).toEqual([3, 1, 1])
})

describe("masks", () => {
  test("comparisons give 1 or 0 as f32, of integers too", async () => {
    const a = gpu.tensor(new Int32Array([1, 2, 3, -4]))
    const b = gpu.tensor(new Int32Array([2, 2, 1, 4]))
    const outputs = [a.equal(b), a.notEqual(b), a.less(b), a.lessEqual(b), a.greater(b), a.greaterEqual(b)]
    expect(outputs.map(({ dtype }) => dtype)).toEqual(Array(6).fill("f32"))
    expect((await gpu.readAll(outputs)).map((array) => [...array])).toEqual([
      [0, 1, 0, 0],
      [1, 0, 1, 1],
      [1, 0, 0, 1],
      [1, 1, 0, 1],
      [0, 0, 1, 0],
      [0, 1, 1, 0],
    ])
  })

  test("logic takes what is not 0 as true", async () => {
    const a = gpu.tensor([0, 0, 2, -1])
    const b = gpu.tensor(new Uint32Array([0, 7, 0, 1]))
    const results = await gpu.readAll([a.and(b), a.or(b), a.xor(b), a.not(), a.and(5), a.or(0)])
    expect(results.map((array) => [...array])).toEqual([
      [0, 0, 0, 1],
      [0, 1, 1, 1],
      [0, 1, 1, 0],
      [1, 1, 0, 0],
      [0, 0, 1, 1],
      [0, 0, 1, 1],
    ])
  })

  test("where chooses, and the gradient follows the choice", async () => {
    await expectAll(gpu, {
      where: {
        params: [param([4, 1], 1), param([3], 2), param([4, 3], 3)],
        fn: (c, a, b) => c.greater(0).where(a, b),
        reference: (c, a, b) =>
          map((x, y, z) => (x > 0 ? y : z), dense([4, 1], c), dense([3], a), dense([4, 3], b)).data,
      },
    })
    const ids = gpu
      .tensor(new Int32Array([5, 6]))
      .less(6)
      .where(gpu.tensor(new Int32Array([1, 2])), -1)
    expect(ids.dtype).toBe("i32")
    expect([...(await ids.data())]).toEqual([1, -1])
  })

  test("any and all", async () => {
    const x = gpu.tensor([0, 0, 1, 0, 1, 1], [3, 2])
    const results = await gpu.readAll([x.any(1), x.all(1), x.any(), x.all(0, { keepDims: true })])
    expect(results.map((array) => [...array])).toEqual([[0, 1, 1], [0, 0, 1], [1], [0, 0]])
  })
})

describe("whole numbers", () => {
  test("compute as they are", async () => {
    const a = gpu.tensor(new Int32Array([7, -7, 2 ** 30]))
    const results = await gpu.readAll([
      a.add(1),
      a.div(2),
      a.mul(-2),
      a.neg().abs(),
      a.sign(),
      a.maximum(0),
      a.square(),
    ])
    expect(results.map((array) => [...array])).toEqual([
      [8, -6, 2 ** 30 + 1],
      [3, -3, 2 ** 29],
      [-14, 14, -(2 ** 31)],
      [7, 7, 2 ** 30],
      [1, -1, 1],
      [7, 0, 2 ** 30],
      [49, 49, 0],
    ])
  })

  test("have remainders with the sign of the divisor, as Python's", async () => {
    const [a, b] = [
      [7, -7, 7, -7, 6, -6, 0, -(2 ** 31), 2 ** 31 - 1],
      [3, 3, -3, -3, 3, -3, 5, 7, -(2 ** 31)],
    ]
    const expected = a.map((x, i) => x - b[i]! * Math.floor(x / b[i]!))
    const signed = gpu.tensor(Int32Array.from(a)).remainder(gpu.tensor(Int32Array.from(b)))
    const unsigned = gpu.tensor(Uint32Array.of(7, 4_000_000_001)).remainder(10)
    expect([signed.dtype, unsigned.dtype]).toEqual(["i32", "u32"])
    expect([...(await signed.data())]).toEqual(expected)
    expect([...(await unsigned.data())]).toEqual([7, 1])
  })

  test("do not mix with others by themselves", () => {
    const ids = gpu.tensor(new Int32Array([1]))
    expect(() => ids.add(gpu.tensor([1]))).toThrow(/add: i32 and f32 do not mix: cast one of them/)
    expect(() => ids.exp()).toThrow(ShapeError)
    expect(() => gpu.tensor(new Uint32Array([1])).neg()).toThrow(/neg: is not defined for u32/)
  })

  test("take numbers of their own dtype alone", async () => {
    const [signed, unsigned] = [gpu.tensor(new Int32Array([0, -1])), gpu.tensor(new Uint32Array([0, 2 ** 32 - 1]))]
    for (const [call, message] of [
      [() => signed.mul(0.5), /0.5 is no number of i32: it has the whole ones from -2147483648 to 2147483647/],
      [() => unsigned.greater(-1), /-1 is no number of u32: it has the whole ones from 0 to 4294967295/],
      [() => signed.equal(2 ** 32), /4294967296 is no number of i32/],
      [() => signed.minimum(3e9), /3000000000 is no number of i32/],
      [() => signed.fullLike(Number.NaN), /NaN is no number of i32/],
    ] as const) {
      expect(call).toThrow(ShapeError)
      expect(call).toThrow(message)
    }
    const results = await gpu.readAll([signed.equal(-(2 ** 31)), signed.minimum(-0), unsigned.equal(2 ** 32 - 1)])
    expect(results.map((array) => [...array])).toEqual([
      [0, 0],
      [0, -1],
      [0, 1],
    ])
  })

  test("of f32 are truncated, and end where a float last has a place in their range", async () => {
    const x = gpu.tensor([1.9, -1.9, 2147483520, 3e9, -3e9, 5e9, -0.5, Number.POSITIVE_INFINITY, -Infinity])
    const [i32, u32] = await gpu.readAll([x.cast("i32"), x.cast("u32")])
    const [most, least] = [2 ** 31 - 128, -(2 ** 31)]
    expect([...i32!]).toEqual([1, -1, most, most, least, most, 0, most, least])
    expect([...u32!]).toEqual([1, 0, 2147483520, 3e9, 0, 2 ** 32 - 256, 0, 2 ** 32 - 256, 0])
  })
})

describe("operands of one dtype", () => {
  test.each(["f16", "bf16"] as const)("%s is read as f32, packed two to a word, with any stride", async (dtype) => {
    const values = Array.from({ length: 15 }, (_, i) => i / 4 - 2)
    const x = gpu.tensor(values, [3, 5]).cast(dtype)
    expect(x.dtype).toBe(dtype)
    const column = gpu.tensor([1, 2, 3], [3, 1]).cast(dtype)
    const results = await gpu.readAll([x, x.mul(2), x.transpose(), x.mul(column), x.sum(1), x.cast("i32"), x.max()])
    expect([...results[0]!]).toEqual(values)
    expect([...results[1]!]).toEqual(values.map((v) => 2 * v))
    expect([...results[2]!]).toEqual(Array.from({ length: 15 }, (_, i) => values[(i % 3) * 5 + Math.floor(i / 3)]!))
    expect([...results[3]!]).toEqual(values.map((v, i) => v * (1 + Math.floor(i / 5))))
    expect([...results[4]!]).toEqual([0, 1, 2].map((r) => values.slice(5 * r, 5 * r + 5).reduce((a, b) => a + b)))
    expect([...results[5]!]).toEqual(values.map(Math.trunc).map((v) => v + 0))
    expect([...results[6]!]).toEqual([1.5])
  })

  test.each(["f16", "bf16"] as const)(
    "%s rounds to nearest even, subnormal numbers and what is none included",
    async (dtype) => {
      const edges = [
        0,
        -0,
        1e-8,
        6e-8,
        3e-5,
        -6.1e-5,
        65519,
        65520,
        1e39,
        -1e39,
        Number.NaN,
        1 + 2 ** -11,
        1 + 3 * 2 ** -11,
        2 ** -24,
        2 ** -25,
      ]
      const values = Float32Array.from([...edges, ...randomArray(100, 7, -4, 4)])
      const stored = await gpu.tensor(values).cast(dtype).data()
      const expected =
        dtype === "f16" ? float16ToFloat32(float32ToFloat16(values)) : bfloat16ToFloat32(float32ToBfloat16(values))
      expect([...stored]).toEqual([...expected])
      const loaded = await gpu.tensor(values).cast(dtype).mul(1).data()
      // A driver may take subnormal halves for zero when it unpacks them.
      expectClose(loaded, expected, { abs: dtype === "f16" ? 2 ** -14 : 0, rel: 0 })
    },
  )

  test("halves go into products, and their gradients are f32", async () => {
    const w = gpu
      .tensor([
        [1, 2],
        [3, 4],
      ])
      .cast("bf16")
    const x = gpu.tensor([[1, -1]])
    const { value, grads } = valueAndGrad((a) => x.matmul(a!).sum(), [w])
    expect(grads[0]!.dtype).toBe("f32")
    expect((await gpu.readAll([value, ...grads])).map((array) => [...array])).toEqual([[-4], [1, 1, -1, -1]])
  })
})
