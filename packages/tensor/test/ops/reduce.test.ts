import { describe, expect, test } from "vitest"
import { grad, type Tensor } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectDifferentiable, param } from "../gradient.ts"
import { dense, expectClose, expectSameBits, fold, randomArray, sizeOf } from "../reference.ts"

const gpu = await testDevice()

const folds = {
  sum: [0, (total: number, x: number) => total + x],
  max: [Number.NEGATIVE_INFINITY, Math.max],
  min: [Number.POSITIVE_INFINITY, Math.min],
} as const
type Fold = keyof typeof folds

const reference = (name: Fold, shape: readonly number[], data: ArrayLike<number>, axis?: number) => {
  const [start, fn] = folds[name]
  return axis === undefined ? fold(dense([data.length], data), 0, start, fn) : fold(dense(shape, data), axis, start, fn)
}

describe.each(["sum", "max", "min"] as const)("%s", (name) => {
  // Row lengths: one; less than, just over and many blocks of 64; then more than 1024 rows of many blocks.
  test.each([
    { shape: [1], axes: [0, undefined] },
    { shape: [5, 7], axes: [0, 1, -1, undefined] },
    { shape: [3, 65], axes: [0, 1, undefined] },
    { shape: [3, 68], axes: [1] },
    { shape: [2, 3, 4], axes: [0, 1, 2, undefined] },
    { shape: [2, 601], axes: [1, undefined] },
    { shape: [600, 3], axes: [0] },
    { shape: [2, 600, 2], axes: [1] },
    { shape: [1030, 516], axes: [1, undefined] },
  ])("of $shape over each axis and over all", async ({ shape, axes }) => {
    const data = randomArray(sizeOf(shape), sizeOf(shape))
    const x = gpu.tensor(data, shape)
    const results = await gpu.readAll(axes.map((axis) => x[name](axis)))
    results.forEach((result, i) => {
      const axis = axes[i] === -1 ? shape.length - 1 : axes[i]
      const expected = reference(name, shape, data, axis)
      expectClose(result, expected.data, { abs: 2e-4, rel: 1e-5 }, `${name} over ${axis}`)
    })
  })

  test("has a gradient over each axis and over all", async () => {
    for (const axis of [0, 1, 2, undefined])
      await expectDifferentiable(gpu, {
        params: [param([3, 2, 4], 1)],
        fn: (x) => x[name](axis),
        reference: (x) => reference(name, [3, 2, 4], x, axis).data,
      })
  })

  test("of an expression", async () => {
    await expectDifferentiable(gpu, {
      params: [param([5, 8], 2), param([5, 1], 3)],
      fn: (x, shift) => x.sub(shift).tanh()[name](1),
      reference: (x, shift) =>
        reference(
          name,
          [5, 8],
          x.map((value, i) => Math.tanh(value - shift[Math.floor(i / 8)]!)),
          1,
        ).data,
    })
  })

  test("of a row has the same bits whatever the number of rows", async () => {
    const data = randomArray(1100 * 600, 4)
    const rows = (count: number) => gpu.tensor(data.slice(0, count * 600), [count, 600])[name](1)
    const [many, few, one] = await gpu.readAll([rows(1100), rows(3), rows(1)])
    expectSameBits(few!, many!.subarray(0, 3))
    expectSameBits(one!, many!.subarray(0, 1))
  })
})

test("mean divides by the number of elements", async () => {
  await expectDifferentiable(gpu, {
    params: [param([3, 5], 5)],
    fn: (x) => x.mean(1).add(x.mean()),
    reference: (x) => {
      const rows = reference("sum", [3, 5], x, 1).data
      const total = rows.reduce((a, b) => a + b, 0)
      return rows.map((sum) => sum / 5 + total / 15)
    },
  })
})

test.each(["max", "min"] as const)("equals share the gradient of %s", async (name) => {
  const sign = name === "max" ? 1 : -1
  const x = gpu.tensor(
    [1, 3, 3, 0, 2, 2, 2, 2].map((value) => sign * value),
    [2, 4],
  )
  const [gradient] = await gpu.readAll(
    grad(
      x[name](1)
        .mul(gpu.tensor([6, 8]))
        .sum(),
      [x],
    ),
  )
  expect([...gradient!]).toEqual([0, 3, 3, 0, 2, 2, 2, 2])
})

test("nothing sums to zero", async () => {
  const values = async (tensor: Tensor) => ({ shape: tensor.shape, values: [...(await tensor.data())] })
  const empty = gpu.zeros([0])
  expect(await values(empty)).toEqual({ shape: [0], values: [] })
  expect(await values(empty.exp().mul(2))).toEqual({ shape: [0], values: [] })
  expect(await values(empty.sum())).toEqual({ shape: [], values: [0] })
  expect(await values(gpu.zeros([3, 0]).sum(1))).toEqual({ shape: [3], values: [0, 0, 0] })
  expect(await values(gpu.zeros([0, 3]).sum(0))).toEqual({ shape: [3], values: [0, 0, 0] })
  expect(await values(gpu.zeros([0, 3]).sum(1))).toEqual({ shape: [0], values: [] })
  expect(
    await values(
      gpu
        .zeros([0, 3])
        .add(gpu.tensor([1, 2, 3]))
        .transpose()
        .reshape([-1]),
    ),
  ).toEqual({ shape: [0], values: [] })
  const [gradient] = grad(empty.exp().sum(), [empty])
  expect(await values(gradient!)).toEqual({ shape: [0], values: [] })
})
