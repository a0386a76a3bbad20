import { describe, expect, test } from "vitest"
import { grad, ShapeError, valueAndGrad, type Tensor } from "../../src/index.ts"
import { testDevice } from "../device.ts"

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

  test("needs a scalar", () => {
    expect(() => valueAndGrad((x) => x, [x])).toThrow(ShapeError)
    expect(() => grad(x.mul(2), [x])).toThrow(/scalar.*\[3\]/)
  })
})
