import { inspect } from "node:util"
import { describe, expect, test } from "vitest"
import { openDevice, ShapeError, TensorError, type Tensor } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectDifferentiable, param } from "../gradient.ts"
import { dense, map, permute } from "../reference.ts"

const gpu = await testDevice()

describe("making tensors", () => {
  test("from numbers, typed arrays and shapes", async () => {
    expect(gpu.tensor([1, 2, 3])).toMatchObject({ shape: [3], dtype: "f32", size: 3 })
    expect(gpu.tensor(new Int32Array(4), [2, 2])).toMatchObject({ shape: [2, 2], dtype: "i32" })
    expect(gpu.tensor(new Uint32Array(2)).dtype).toBe("u32")
    expect(await gpu.tensor(new Int32Array([-7])).item()).toBe(-7)
    expect([...(await gpu.zeros([3], "i32").data())]).toEqual([0, 0, 0])
    expect([...(await gpu.full([2, 2], 1.5).data())]).toEqual([1.5, 1.5, 1.5, 1.5])
    expect(await gpu.tensor([5], []).item()).toBe(5)
  })

  test("from a number and from lists of lists", async () => {
    expect(gpu.tensor(5)).toMatchObject({ shape: [], dtype: "f32" })
    const nested = gpu.tensor([[[1, 2, 3]], [[4, 5, 6]]])
    expect(nested.shape).toEqual([2, 1, 3])
    expect([...(await nested.data())]).toEqual([1, 2, 3, 4, 5, 6])
    expect(gpu.tensor([[], []]).shape).toEqual([2, 0])
    expect(() => gpu.tensor([[1, 2], [3]])).toThrow(/tensor: lists of one depth must have one length/)
    expect(() => gpu.tensor([[1, 2], 3])).toThrow(ShapeError)
    expect(() => gpu.tensor(new Uint8Array(4) as unknown as Uint32Array<ArrayBuffer>)).toThrow(
      /a Uint8Array is no array of f32/,
    )
  })

  test("are shown by dtype and shape", () => {
    expect(String(gpu.zeros([2, 3], "i32"))).toBe("Tensor i32 [2, 3]")
    expect(inspect({ x: gpu.constant(1) })).toBe("{ x: Tensor f32 [] }")
  })

  test("normal and uniform deviates depend on seed and position alone", async () => {
    const [a, b, other] = await gpu.readAll([
      gpu.normal([4000], { seed: 1 }),
      gpu.normal([10, 41], { seed: 1 }),
      gpu.normal([4000], { seed: 2 }),
    ])
    expect([...b!]).toEqual([...a!.subarray(0, 410)])
    expect(a![0]).not.toBe(other![0])
    const average = (numbers: readonly number[]) => numbers.reduce((sum, x) => sum + x, 0) / numbers.length
    const mean = average([...a!])
    const variance = average([...a!].map((x) => (x - mean) ** 2))
    expect(Math.abs(mean)).toBeLessThan(0.08)
    expect(Math.abs(variance - 1)).toBeLessThan(0.12)
    const u = [...(await gpu.uniform([4000], { seed: 3, low: -1, high: 3 }).data())]
    expect(Math.min(...u)).toBeGreaterThanOrEqual(-1)
    expect(Math.max(...u)).toBeLessThan(3)
    expect(Math.abs(average(u) - 1)).toBeLessThan(0.1)
  })
})

describe("changing shape", () => {
  const shape = [2, 3, 4] as const

  test.each([[[0, 1, 2]], [[2, 1, 0]], [[1, 0, 2]], [[0, 2, 1]], [[2, 0, 1]], [[1, 2, 0]]])(
    "transpose(%j), with gradients",
    async (axes) => {
      await expectDifferentiable(gpu, {
        params: [param(shape, 1)],
        fn: (x) => x.transpose(axes),
        reference: (x) => permute(dense(shape, x), axes).data,
      })
    },
  )

  test.each([
    [
      [3, 1, 4],
      [3, 2, 4],
    ],
    [[1], [5]],
    [[4], [2, 3, 4]],
    [
      [1, 3, 1],
      [2, 3, 2],
    ],
  ])("broadcastTo from %j to %j, with gradients", async (from, to) => {
    await expectDifferentiable(gpu, {
      params: [param(from, 2)],
      fn: (x) => x.broadcastTo(to),
      reference: (x) => map((a) => a, dense(from, x), dense(to, new Float64Array(to.reduce((a, b) => a * b, 1)))).data,
    })
  })

  test("reshape keeps the order of elements, and finds a dimension", async () => {
    const x = gpu.tensor([1, 2, 3, 4, 5, 6], [2, 3])
    expect(x.reshape([3, -1]).shape).toEqual([3, 2])
    expect([...(await x.transpose().reshape([6]).data())]).toEqual([1, 4, 2, 5, 3, 6])
    expect([...(await x.reshape([3, 2]).transpose().data())]).toEqual([1, 3, 5, 2, 4, 6])
  })

  test("integers keep their bits", async () => {
    const ids = [1, -2, 3, 2_147_483_647, -2_147_483_648, 0x7f800001, 8, 0]
    const x = gpu.tensor(new Int32Array(ids), [2, 4])
    expect([...(await x.transpose().data())]).toEqual([0, 4, 1, 5, 2, 6, 3, 7].map((i) => ids[i]))
    expect([...(await x.reshape([8, 1]).broadcastTo([8, 4]).data())]).toEqual(ids.flatMap((id) => [id, id, id, id]))
    expect(x.transpose().dtype).toBe("i32")
  })
})

describe("mistakes are ShapeErrors that name the operation and the shapes", () => {
  const [a, ids] = [gpu.zeros([2, 3]), gpu.zeros([3], "i32")]
  test.each<[string, () => unknown, RegExp]>([
    ["tensor", () => gpu.tensor([1, 2, 3], [2, 2]), /tensor: 3 elements do not fill shape \[2, 2\]/],
    ["add", () => a.add(gpu.zeros([2])), /add: shapes \[2, 3\] and \[2\] do not broadcast/],
    ["where", () => a.where(gpu.zeros([4]), 0), /where: shapes .*\[4\]/],
    ["mul of floats and integers", () => a.mul(ids), /mul: f32 and i32 do not mix: cast one of them/],
    ["exp of integers", () => ids.exp(), /exp: is not defined for i32: cast it first/],
    ["sum", () => a.sum(2), /sum: 2 is not an axis of \[2, 3\]/],
    ["max", () => a.max(-3), /max: -3 is not an axis of \[2, 3\]/],
    ["reshape", () => a.reshape([4]), /reshape: \[2, 3\] does not fit \[4\]/],
    ["reshape with a gap", () => a.reshape([4, -1]), /reshape: \[2, 3\] does not fit \[4, -1\]/],
    ["broadcastTo", () => a.broadcastTo([3, 2]), /broadcastTo: .*\[2, 3\] and \[3, 2\]/],
    ["transpose", () => a.transpose([0, 0]), /transpose: axes \[0, 0\] do not permute \[2, 3\]/],
    ["matmul", () => a.matmul(a), /matmul: \[2, 3\] and \[2, 3\]/],
    ["write", () => gpu.write(a, new Float32Array(5)), /write: 5 × f32 do not fit 6 × f32/],
  ])("%s", (_, call, message) => {
    expect(call).toThrow(ShapeError)
    expect(call).toThrow(message)
  })

  test("item", async () => {
    await expect(a.item()).rejects.toThrow(/item: needs one element, the tensor has shape \[2, 3\]/)
  })

  test("operands of different devices", async () => {
    const other = await openDevice()
    expect(() => a.add(other.zeros([2, 3]))).toThrow(TensorError)
    expect(() => a.matmul(other.zeros([3, 2]) as Tensor)).toThrow(TensorError)
    await expect(gpu.readAll([a, other.ones([2])])).rejects.toThrow(/read: the tensor belongs to another device/)
    expect(() => gpu.write(other.ones([1]), Float32Array.of(2))).toThrow(/belongs to another device/)
    expect(() => gpu.compile((x: Tensor) => x.add(1))(other.ones([1]))).toThrow(/belongs to another device/)
    other.destroy()
  })
})
