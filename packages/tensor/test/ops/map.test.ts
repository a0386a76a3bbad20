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

  test("sines and cosines keep f32's digits over many turns", async () => {
    const x = randomArray(4000, 5, -2000, 2000)
    const [sin, cos] = await gpu.readAll([gpu.tensor(x).sin(), gpu.tensor(x).cos()])
    expectClose(sin!, Float64Array.from(x, Math.sin), { abs: 4e-7, rel: 0 })
    expectClose(cos!, Float64Array.from(x, Math.cos), { abs: 4e-7, rel: 0 })
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
