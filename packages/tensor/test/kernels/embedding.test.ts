import { describe, expect, test } from "vitest"
import { embedding, ShapeError } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectDifferentiable, param } from "../gradient.ts"

const gpu = await testDevice()

describe("embedding", () => {
  test.each([
    { name: "repeated ids", ids: [3, 0, 3, 3, 6, 1], width: 5 },
    { name: "one id", ids: [2], width: 1 },
    { name: "more ids than a workgroup", ids: Array.from({ length: 70 }, (_, i) => (i * i) % 7), width: 4 },
  ])("picks rows, with the gradient of $name", async ({ ids, width }) => {
    await expectDifferentiable(gpu, {
      params: [param([7, width], 1)],
      fn: (table) => embedding(table, gpu.tensor(new Int32Array(ids))),
      reference: (table) => ids.flatMap((id) => [...table.subarray(id * width, (id + 1) * width)]),
      value: { abs: 0, rel: 0 },
    })
  })

  test.each([4, 3])("an id that is none reads zeros, and its gradient goes nowhere (rows of %i)", async (width) => {
    const ids = [6, 7, -1, 0, 2 ** 31 - 1, -(2 ** 31)]
    for (const indices of [new Int32Array(ids), Uint32Array.from(ids)])
      await expectDifferentiable(gpu, {
        params: [param([7, width], 2)],
        fn: (table) => embedding(table, gpu.tensor(indices)),
        reference: (table) =>
          ids.flatMap((id) =>
            Array.from({ length: width }, (_, k) => (id >= 0 && id < 7 ? table[id * width + k]! : 0)),
          ),
        value: { abs: 0, rel: 0 },
      })
    const packed = gpu.ones([7, width]).cast("bf16")
    const sums = embedding(packed, gpu.tensor(new Int32Array(ids))).sum(1)
    expect([...(await sums.data())]).toEqual([width, 0, 0, width, 0, 0])
  })

  test("names what does not fit", () => {
    const message = /embedding: needs a table \[V, D\] and i32 or u32 ids \[N\], got \[7, 4\] and f32 \[2\]/
    expect(() => embedding(gpu.zeros([7, 4]), gpu.zeros([2]))).toThrow(message)
    expect(() => embedding(gpu.zeros([7]), gpu.tensor(new Int32Array([1])))).toThrow(ShapeError)
  })
})
