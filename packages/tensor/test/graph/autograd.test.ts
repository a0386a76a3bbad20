import { describe, expect, test } from "vitest"
import { grad, linear, rmsNorm, ShapeError, valueAndGrad, type Tensor } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectClose, randomArray } from "../reference.ts"

const gpu = await testDevice()
const values = async (tensors: readonly Tensor[]) => (await gpu.readAll(tensors)).map((array) => [...array])

describe("grad", () => {
  const [x, y] = [gpu.tensor([1, 2, 3]), gpu.tensor([4, 5, 6])]

  test("adds up what reaches a parameter along several paths", async () => {
    const { value, grads } = valueAndGrad((x, y) => x.mul(y).add(x.square()).add(x).sum(), [x, y])
    expect(await values([value, ...grads])).toEqual([[52], [7, 10, 13], [1, 2, 3]])
  })

  test("is zero for a parameter that plays no part", async () => {
    expect(await values(grad(x.sum(), [y, x]))).toEqual([
      [0, 0, 0],
      [1, 1, 1],
    ])
  })

  test("goes through a parameter that depends on another", async () => {
    const z = x.mul(2)
    expect(await values(grad(z.mul(y).sum(), [x, z]))).toEqual([
      [8, 10, 12],
      [4, 5, 6],
    ])
  })

  test("goes through a value that was read", async () => {
    const z = x.mul(y)
    await z.data()
    expect(await values(grad(z.square().sum(), [x]))).toEqual([[32, 100, 216]])
  })

  test("of a value of one element, whatever its rank", async () => {
    expect(await values(grad(x.reshape([1, 3]).matmul(y.reshape([3, 1])), [x]))).toEqual([[4, 5, 6]])
    expect(await values(grad(gpu.tensor([3]).mul(x.sum()).reshape([1, 1]), [x]))).toEqual([[3, 3, 3]])
  })

  test("passes neither comparisons nor stopGradient", async () => {
    const loss = x.greater(1).mul(x).add(x.stopGradient().mul(10)).sum()
    expect(await values(grad(loss, [x]))).toEqual([[0, 1, 1]])
    expect(await values(grad(x.equal(x).sum(), [x]))).toEqual([[0, 0, 0]])
  })

  test("where() hands each side its own part, also where the other is not finite", async () => {
    const base = gpu.tensor([0, 4, 9])
    const safe = base.greater(0).where(base, 1)
    const loss = base.greater(0).where(safe.log(), 0).sum()
    const [gradient] = await values(grad(loss, [base]))
    expect(gradient![0]).toBe(0)
    expect(gradient![1]).toBeCloseTo(0.25, 6)
  })

  test("needs parameters that have one, and a past", async () => {
    const whole = gpu.tensor(Int32Array.of(1, 2))
    expect(() => grad(whole.sum(), [whole])).toThrow(/grad: needs a floating-point scalar, got i32/)
    expect(() => grad(whole.cast("f32").sum(), [whole])).toThrow(
      /grad: i32 \[2\] has no gradient: it has whole numbers/,
    )
    const x = gpu.tensor([1, 2])
    const squares = gpu.compile((x) => x.square(), { name: "squares" })
    expect(() => grad(squares(x).sum(), [x])).toThrow(/the compiled function "squares", which keeps no past/)
    // What it returned is a constant beside a parameter that plays a part.
    expect([...(await grad(squares(x).mul(x).sum(), [x])[0]!.data())]).toEqual([1, 4])
  })

  test("needs a scalar", () => {
    expect(() => valueAndGrad((x) => x, [x])).toThrow(ShapeError)
    expect(() => grad(x.mul(2), [x])).toThrow(/scalar.*\[3\]/)
  })
})

describe("gradients that meet", () => {
  test("are added in the kernel that makes one of them", async () => {
    const data = { x: randomArray(6 * 8, 1), w: randomArray(8 * 8, 2), weight: randomArray(8, 3) }
    const [x, w, weight] = [gpu.tensor(data.x, [6, 8]), gpu.tensor(data.w, [8, 8]), gpu.tensor(data.weight)]
    const loss = (input: Tensor) =>
      linear(rmsNorm(input, weight, 1e-5), w, { residual: input })
        .square()
        .sum()
    const compiled = gpu.compile(() => valueAndGrad(loss, [x]).grads[0]!)
    const apart = gpu.compile(() => {
      const [through, beside] = valueAndGrad(
        (a, b) =>
          linear(rmsNorm(a!, weight, 1e-5), w, { residual: b! })
            .square()
            .sum(),
        [x, gpu.tensor(data.x, [6, 8])],
      ).grads
      return [through!, beside!]
    })
    expect(compiled.explain().kernels.filter((name) => name.includes("rmsNorm gradient, added"))).toHaveLength(1)
    const [through, beside] = await gpu.readAll(apart() as readonly Tensor[])
    const sum = [...through!].map((value, i) => value + beside![i]!)
    expectClose(await compiled().data(), sum, { abs: 1e-5, rel: 1e-5 })
  })

  test("are kept apart where one of them is read by itself", async () => {
    const [a, b] = [gpu.tensor([1, 2, 3, 4], [2, 2]), gpu.tensor([5, 6, 7, 8], [2, 2])]
    const w = gpu.tensor([1, -1, 2, 3], [2, 2])
    // The gradient of the difference reaches a as it is, b negated, and a once more.
    const { grads } = valueAndGrad((x, y) => x!.sub(y!).matmul(w).sum().add(x!.sum()), [a, b])
    const [da, db] = await gpu.readAll(grads)
    expect([[...da!], [...db!]]).toEqual([
      [1, 6, 1, 6],
      [-0, -5, -0, -5],
    ])
  })
})
