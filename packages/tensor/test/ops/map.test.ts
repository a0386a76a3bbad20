import { describe, expect, test } from "vitest"
import { grad, type Tensor } from "../../src/index.ts"
import { mapTable, type MapName } from "../../src/ops/table.ts"
import { testDevice } from "../device.ts"
import { expectDifferentiable, param } from "../gradient.ts"
import { dense, expectClose, map, randomArray, sizeOf } from "../reference.ts"

const gpu = await testDevice()

type Range = readonly [low: number, high: number]

/** Operands for which an operation is defined and smooth, for each row of the table. */
const domains: Readonly<Record<MapName, readonly Range[]>> = {
  add: [
    [-2, 2],
    [-2, 2],
  ],
  sub: [
    [-2, 2],
    [-2, 2],
  ],
  mul: [
    [-2, 2],
    [-2, 2],
  ],
  div: [
    [-2, 2],
    [0.5, 2],
  ],
  remainder: [
    [-2, 2],
    [0.6, 2],
  ],
  minimum: [
    [-2, 2],
    [-2, 2],
  ],
  maximum: [
    [-2, 2],
    [-2, 2],
  ],
  pow: [
    [0.2, 3],
    [-2, 2],
  ],
  atan2: [
    [-2, 2],
    [0.3, 2],
  ],
  neg: [[-2, 2]],
  exp: [[-4, 4]],
  log: [[0.1, 4]],
  sqrt: [[0.1, 4]],
  rsqrt: [[0.1, 4]],
  abs: [[-2, 2]],
  square: [[-2, 2]],
  sign: [[-2, 2]],
  floor: [[-2, 2]],
  ceil: [[-2, 2]],
  round: [[-2, 2]],
  trunc: [[-2, 2]],
  reciprocal: [[0.5, 3]],
  exp2: [[-4, 4]],
  expm1: [[-3, 3]],
  log2: [[0.1, 4]],
  log1p: [[-0.8, 3]],
  sin: [[-7, 7]],
  cos: [[-7, 7]],
  tan: [[-1.3, 1.3]],
  tanh: [[-4, 4]],
  sigmoid: [[-6, 6]],
  silu: [[-6, 6]],
  relu: [[-2, 2]],
  leakyRelu: [
    [-2, 2],
    [0.1, 0.3],
  ],
  elu: [
    [-3, 3],
    [0.5, 2],
  ],
  softplus: [[-6, 6]],
  erf: [[-4, 4]],
  gelu: [[-6, 6]],
  geluTanh: [[-6, 6]],
  greater: [
    [-2, 2],
    [-2, 2],
  ],
  less: [
    [-2, 2],
    [-2, 2],
  ],
  greaterEqual: [
    [-2, 2],
    [-2, 2],
  ],
  lessEqual: [
    [-2, 2],
    [-2, 2],
  ],
  equal: [
    [-2, 2],
    [-2, 2],
  ],
  notEqual: [
    [-2, 2],
    [-2, 2],
  ],
  isNaN: [[-2, 2]],
  isFinite: [[-2, 2]],
  where: [
    [-1, 1],
    [-2, 2],
    [-2, 2],
  ],
  stopGradient: [[-2, 2]],
}

/** Shapes of up to three operands: read as vec4 throughout, and element by element. */
const shapes = {
  vec4: [[2, 3, 4], [3, 1], [4]],
  scalar: [
    [5, 1],
    [1, 3],
    [5, 3],
  ],
} as const

const apply = (name: MapName, [first, ...rest]: readonly Tensor[]): Tensor =>
  (first as unknown as Record<MapName, (...operands: readonly Tensor[]) => Tensor>)[name](...rest)

describe.each(Object.keys(mapTable) as MapName[])("%s", (name) => {
  const row = mapTable[name]
  test.each(["vec4", "scalar"] as const)("computes its reference by %s, with gradients", async (path) => {
    const params = domains[name].map(([low, high], i) => param(shapes[path][i]!, i + 1, low, high))
    const reference = (...inputs: Float64Array[]) =>
      map(row.reference, ...inputs.map((input, i) => dense(params[i]!.shape, input))).data
    if (name === "stopGradient") {
      const x = gpu.tensor(params[0]!.data, params[0]!.shape)
      const [value, gradient] = await gpu.readAll([x.stopGradient(), ...grad(x.stopGradient().mul(x).sum(), [x])])
      expectClose(value!, params[0]!.data, { abs: 0, rel: 0 })
      expectClose(gradient!, params[0]!.data, { abs: 0, rel: 0 }, "gradient past it")
      return
    }
    await expectDifferentiable(gpu, {
      params,
      fn: (...operands) => apply(name, operands),
      reference,
      value: { abs: 2e-6, rel: 1e-5 },
      grad: { abs: 1e-4, rel: 2e-4 },
    })
  })
})

describe("element-wise operations", () => {
  test.each([
    [[7], [7]],
    [
      [2, 3, 5],
      [3, 1],
    ],
    [
      [4, 1, 8],
      [3, 1],
    ],
    [
      [1, 4],
      [5, 4],
    ],
    [
      [2, 1, 3, 1],
      [1, 5, 1, 4],
    ],
    [[3, 8], []],
    [[1, 1], [1]],
    [[], []],
    [[0], [1]],
    [
      [3, 0],
      [3, 1],
    ],
  ])("broadcast %j with %j", async (a, b) => {
    const [x, y] = [randomArray(sizeOf(a), 1), randomArray(sizeOf(b), 2)]
    const expected = map((p, q) => p - q, dense(a, x), dense(b, y))
    const result = gpu.tensor(x, a).sub(gpu.tensor(y, b))
    expect(result.shape).toEqual(expected.shape)
    expectClose(await result.data(), expected.data)
  })

  test("take numbers in place of tensors", async () => {
    const x = gpu.tensor([-1, 0, 2])
    expect([...(await x.mul(3).add(1).maximum(-1).data())]).toEqual([-1, 1, 7])
    expect([...(await x.greater(0).where(x, -5).data())]).toEqual([-5, -5, 2])
    expect([...(await x.clamp(-0.5, 1).data())]).toEqual([-0.5, 0, 1])
    expect([...(await x.add(2).pow(2).data())].map(Math.round)).toEqual([1, 4, 16])
    expect(await gpu.constant(2).mul(3).item()).toBe(6)
  })

  test("on a tie, minimum and maximum give the whole gradient to the first operand", async () => {
    const [a, b] = [gpu.tensor([1, 1, 1]), gpu.tensor([1, 0, 2])]
    const gradients = async (value: Tensor) => (await gpu.readAll(grad(value.sum(), [a, b]))).map((g) => [...g])
    expect(await gradients(a.minimum(b))).toEqual([
      [1, 0, 1],
      [0, 1, 0],
    ])
    expect(await gradients(a.maximum(b))).toEqual([
      [1, 1, 0],
      [0, 0, 1],
    ])
  })

  test.each([10, 2000, 1e5])("sines, cosines and tangents keep f32's digits for |x| up to %d", async (limit) => {
    const x = randomArray(4000, 5, -limit, limit)
    const [sin, cos, tan] = await gpu.readAll([gpu.tensor(x).sin(), gpu.tensor(x).cos(), gpu.tensor(x).tan()])
    expectClose(sin!, Float64Array.from(x, Math.sin), { abs: 2e-7, rel: 0 })
    expectClose(cos!, Float64Array.from(x, Math.cos), { abs: 2e-7, rel: 0 })
    expectClose(tan!, Float64Array.from(x, Math.tan), { abs: 1e-7, rel: 3e-6 })
  })

  test("sines and cosines stay within ±1 however large the angle, and end with it", async () => {
    const sizes = [1.1e5, 7e5, 1e6, 3e7, 1e10, 1e20, 3.4e38].flatMap((size) => [size, -size])
    const x = gpu.tensor([...sizes, ...randomArray(500, 7, -1e7, 1e7)])
    const ends = gpu.tensor([Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])
    const [sin, cos, ...none] = await gpu.readAll([x.sin(), x.cos(), ends.sin(), ends.cos()])
    for (const array of [sin!, cos!]) expect(array.every((y) => Math.abs(y) <= 1)).toBe(true)
    expect(none.flatMap((array) => [...array])).toEqual(Array(4).fill(Number.NaN))
  })

  test("tanh keeps f32's digits from the smallest numbers on, and so does its gradient", async () => {
    const x = Float32Array.from({ length: 2000 }, (_, i) => (i % 2 === 0 ? 1 : -1) * 10 ** (-30 + i / 64))
    const input = gpu.tensor(x)
    const [y, slope] = await gpu.readAll([input.tanh(), ...grad(input.tanh().sum(), [input])])
    expectClose(y!, Float64Array.from(x, Math.tanh), { abs: 0, rel: 4e-7 })
    expectClose(
      slope!,
      Float64Array.from(x, (v) => 1 - Math.tanh(v) ** 2),
      { abs: 4e-7, rel: 0 },
    )
  })

  test("powers of small whole exponents are products", async () => {
    const bases = [5, 10, -3, 2, 0, 7]
    const exponents = [0, 1, 3, 4, 5, 6, 7]
    const powers = [
      ...exponents.map((n) => gpu.tensor(bases).pow(n)),
      ...exponents.map((n) => gpu.tensor(bases).pow(gpu.tensor(new Float32Array(bases.length).fill(n)))),
    ]
    const results = await gpu.readAll(powers)
    const expected = exponents.map((n) => bases.map((x) => x ** n))
    expect(results.map((array) => [...array])).toEqual([...expected, ...expected])
    const all = exponents.concat(8, 11, 15).flatMap((n) => [n, -n])
    const x = randomArray(all.length, 3, -3, 3)
    const y = await gpu.tensor(x).pow(gpu.tensor(all)).data()
    expectClose(
      y,
      x.map((base, i) => base ** all[i]!),
      { abs: 0, rel: 2e-6 },
    )
  })

  test("powers of 0 and to the 0 have PyTorch's gradients", async () => {
    const [a, b] = [gpu.tensor([0, 2, 0, 0, 0, -1]), gpu.tensor([0, 0, 2, 1, -1, 2])]
    const [number, base, exponent] = await gpu.readAll([...grad(a.pow(0).sum(), [a]), ...grad(a.pow(b).sum(), [a, b])])
    expect([...number!].map(Math.abs)).toEqual([0, 0, 0, 0, 0, 0])
    expect([...base!].map((x) => x + 0)).toEqual([0, 0, 0, 1, Number.NEGATIVE_INFINITY, -2])
    expectClose(exponent!.subarray(0, 5), [0, Math.LN2, 0, 0, Number.NEGATIVE_INFINITY])
    expect(exponent![5]).toBeNaN()
  })

  test("logarithms end at 0", async () => {
    const x = gpu.tensor([0, -1, 1, 8, 0.125])
    const [log, log2] = await gpu.readAll([x.log(), x.log2()])
    expect([...log!.subarray(0, 3)]).toEqual([Number.NEGATIVE_INFINITY, Number.NaN, 0])
    expect([...log2!]).toEqual([Number.NEGATIVE_INFINITY, Number.NaN, 0, 3, -3])
  })

  test("saturate where f32 ends", async () => {
    const x = gpu.tensor([-1e4, -100, 100, 1e4])
    const [tanh, sigmoid, silu] = await gpu.readAll([x.tanh(), x.sigmoid(), x.silu()])
    expect([...tanh!]).toEqual([-1, -1, 1, 1])
    expectClose(sigmoid!, [0, 0, 1, 1], { abs: 1e-30, rel: 0 })
    expectClose(silu!, [0, 0, 100, 1e4], { abs: 1e-30, rel: 0 })
  })
})
