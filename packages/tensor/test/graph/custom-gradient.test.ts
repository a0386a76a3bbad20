import { describe, expect, test } from "vitest"
import { checkpoint, customGradient, grad, ShapeError, valueAndGrad, type Tensor } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectClose, expectSameBits, randomArray } from "../reference.ts"

const gpu = await testDevice()
const values = async (tensors: readonly Tensor[]) => (await gpu.readAll(tensors)).map((array) => [...array])

describe("customGradient", () => {
  test("takes the place of the gradient that the operations have", async () => {
    const roundStraight = customGradient(
      (x: Tensor) => x.round(),
      ({ grad: g }) => [g],
    )
    const x = gpu.tensor([0.2, 1.6, -0.7])
    const { value, grads } = valueAndGrad((a) => roundStraight(a.mul(2)).square().sum(), [x])
    expect(await values([value, ...grads])).toEqual([[10], [0, 12, -4]])
  })

  test("is given the output and the inputs", async () => {
    const product = customGradient(
      (a: Tensor, b: Tensor) => a.mul(b),
      ({ grad: g, output, inputs: [a, b] }) => [g.mul(b!).add(output.mul(0)), g.mul(a!).mul(10)],
    )
    const [a, b] = [gpu.tensor([2, 3]), gpu.tensor([5, 7])]
    expect(await values(grad(product(a, b).sum(), [a, b]))).toEqual([
      [5, 7],
      [20, 30],
    ])
  })

  test("an input may have none, and the rule must fit", async () => {
    const [a, b] = [gpu.tensor([2, 3]), gpu.tensor([5, 7])]
    const half = customGradient(
      (x: Tensor, y: Tensor) => x.mul(y),
      ({ grad: g, inputs }) => [g.mul(inputs[1]!), undefined],
    )
    expect(await values(grad(half(a, b).sum(), [a, b]))).toEqual([
      [5, 7],
      [0, 0],
    ])
    const short = customGradient(
      (x: Tensor, y: Tensor) => x.mul(y),
      ({ grad: g }) => [g],
    )
    expect(() => grad(short(a, b).sum(), [a])).toThrow(/customGradient: the rule gave 1 gradients for 2 inputs/)
    const wrong = customGradient(
      (x: Tensor) => x.mul(2),
      ({ grad: g }) => [g.sum()],
    )
    expect(() => grad(wrong(a).sum(), [a])).toThrow(ShapeError)
  })
})

describe("checkpoint", () => {
  const width = 16
  const make = (seed: number) => gpu.tensor(randomArray(width * width, seed, -0.5, 0.5), [width, width])
  const weights = [make(1), make(2), make(3)]
  const x = gpu.tensor(randomArray(8 * width, 4), [8, width])
  const block = (weight: Tensor) => (h: Tensor) => h.add(h.matmul(weight).tanh().matmul(weight).sigmoid())
  const loss =
    (wrap: (fn: (h: Tensor) => Tensor) => (h: Tensor) => Tensor) =>
    (input: Tensor, ...ws: Tensor[]) =>
      ws
        .reduce((h, weight) => wrap(block(weight))(h), input)
        .square()
        .mean()

  test("gives the same bits, to arguments and to what the function closes over", async () => {
    const plain = valueAndGrad(
      loss((fn) => fn),
      [x, ...weights],
    )
    const again = valueAndGrad(loss(checkpoint), [x, ...weights])
    const expected = await gpu.readAll([plain.value, ...plain.grads])
    const actual = await gpu.readAll([again.value, ...again.grads])
    actual.forEach((array, i) => expectSameBits(array, expected[i]!, `result ${i}`))
  })

  test("has a gradient of its gradient, also where what it reads depends on each other", async () => {
    const seed = gpu.tensor(randomArray(8 * width, 5), [8, width])
    const twice = (wrap: typeof checkpoint) => {
      const total = (input: Tensor) => {
        const scaled = input.mul(0.5).sin()
        const out = wrap((h: Tensor) => h.matmul(weights[0]!).tanh().mul(scaled).add(h.square()))(input)
        return out.square().sum()
      }
      return grad(grad(total(x), [x])[0]!.mul(seed).sum(), [x, weights[0]!])
    }
    const plain = await gpu.readAll(twice((fn) => fn))
    const again = await gpu.readAll(twice(checkpoint))
    expect(plain[0]!.some((element) => Math.abs(element) > 0.1)).toBe(true)
    again.forEach((array, i) => expectClose(array, [...plain[i]!]))
  })

  test("computes twice, and keeps less", () => {
    const deep = Array.from({ length: 6 }, () => weights[0]!)
    const input = gpu.tensor(randomArray(512 * width, 5), [512, width])
    const compile = (wrap: Parameters<typeof loss>[0]) =>
      gpu
        .compile(
          (h: Tensor) =>
            valueAndGrad((...all) => loss(wrap)(...(all as [Tensor, ...Tensor[]])), [h, ...deep]).grads[0]!,
        )
        .explain(input)
    const [plain, again] = [compile((fn) => fn), compile(checkpoint)]
    expect(again.launches).toBeGreaterThan(plain.launches)
    expect(again.workspaceBytes).toBeLessThan(0.75 * plain.workspaceBytes)
  })

  test("nests", async () => {
    const nested = checkpoint((h: Tensor) => checkpoint(block(weights[0]!))(checkpoint(block(weights[1]!))(h)))
    const flat = (h: Tensor) => block(weights[0]!)(block(weights[1]!)(h))
    const results = [flat, nested].map((fn) => grad(fn(x).square().sum(), [x, weights[0]!, weights[1]!]))
    const [expected, actual] = [await gpu.readAll(results[0]!), await gpu.readAll(results[1]!)]
    actual.forEach((array, i) => expectClose(array, expected[i]!, { abs: 1e-6, rel: 1e-6 }, `gradient ${i}`))
  })

  test("counts a value once that depends on another one it reads", async () => {
    const a = gpu.tensor([1, 2, 3])
    const b = a.square()
    const region = checkpoint((p: Tensor, q: Tensor) => p.mul(q).exp2())
    const plain = grad(a.mul(b).exp2().sum(), [a])
    expectClose(await grad(region(a, b).sum(), [a])[0]!.data(), await plain[0]!.data())
  })

  test("passes whole numbers and what was made inside through", async () => {
    const ids = gpu.tensor(new Int32Array([2, 0]))
    const pick = checkpoint((h: Tensor, at: Tensor) => h.indexSelect(0, at).mul(gpu.tensor([3, 4])))
    const a = gpu.tensor([1, 2, 3])
    expect(await values([pick(a, ids), ...grad(pick(a, ids).sum(), [a])])).toEqual([
      [9, 4],
      [4, 0, 3],
    ])
  })

  test("refuses what must not happen twice", () => {
    const total = gpu.zeros([3])
    const region = checkpoint((h: Tensor) => h.derive({ kind: "accumulate" }, [total, h], [3]).mul(2))
    expect(() => region(gpu.ones([3]))).toThrow(/checkpoint: the function updates memory in place/)
  })
})

describe("gradients of gradients", () => {
  test("come with the composed operations", async () => {
    const x = gpu.tensor([0.5, 1, -2])
    const [first] = grad(x.pow(3).add(x.sin()).sum(), [x])
    const [second] = grad(first!.sum(), [x])
    const [third] = grad(second!.sum(), [x])
    expectClose(
      await second!.data(),
      [0.5, 1, -2].map((v) => 6 * v - Math.sin(v)),
    )
    expectClose(
      await third!.data(),
      [0.5, 1, -2].map((v) => 6 - Math.cos(v)),
    )
  })

  test("Hessian times vector of a small network", async () => {
    const w = gpu.tensor(randomArray(6, 1), [3, 2])
    const v = gpu.tensor(randomArray(6, 2), [3, 2])
    const input = gpu.tensor(randomArray(12, 3), [4, 3])
    const gradient = (weight: Tensor) => grad(input.matmul(weight).tanh().square().sum(), [weight])[0]!
    const [hv] = grad(gradient(w).mul(v).sum(), [w])
    const step = 1e-3
    const [up, down] = await gpu.readAll([gradient(w.add(v.mul(step))), gradient(w.sub(v.mul(step)))])
    expectClose(
      await hv!.data(),
      Float64Array.from(up!, (value, i) => (value - down![i]!) / (2 * step)),
      { abs: 5e-3, rel: 5e-3 },
    )
  })
})
