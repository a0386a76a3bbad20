import { describe, expect, test } from "vitest"
import { grad, ShapeError } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { param } from "../gradient.ts"
import { at, dense, randomNumbers, sizeOf, unravel, type Dense } from "../reference.ts"
import { expectAll, type Case } from "./many.ts"

const gpu = await testDevice()

const integers = (shape: readonly number[], below: number, seed: number) => {
  const next = randomNumbers(seed)
  return Int32Array.from({ length: sizeOf(shape) }, () => Math.floor(next() * below))
}
const ids = (values: ArrayLike<number>, shape: readonly number[]) => gpu.tensor(Int32Array.from(values), shape)
const flatOf = (shape: readonly number[], index: readonly number[]) =>
  index.reduce((flat, k, axis) => flat * shape[axis]! + k, 0)

interface Place {
  readonly shape: readonly number[]
  readonly axis: number
  readonly count: number
}

const places: readonly Place[] = [
  { shape: [5], axis: 0, count: 7 },
  { shape: [3, 4, 2], axis: 1, count: 6 },
  { shape: [3, 4, 2], axis: -1, count: 3 },
  { shape: [4, 1], axis: 0, count: 1 },
  { shape: [2, 3], axis: 1, count: 0 },
]

/** Indices that do not reach all of the tensor. */
const smaller: readonly {
  readonly shape: readonly number[]
  readonly axis: number
  readonly indices: readonly number[]
}[] = [
  { shape: [3, 4], axis: 0, indices: [5, 2] },
  { shape: [3, 4, 2], axis: 1, indices: [2, 6, 1] },
  { shape: [3, 4], axis: 1, indices: [1, 1] },
  { shape: [3, 4], axis: 1, indices: [0, 2] },
]

describe("reading by index", () => {
  test("gather takes an element for every index, with gradients", async () => {
    const cases = places.map(({ shape, axis, count }, i): [string, Case] => {
      const along = (axis + shape.length) % shape.length
      const result = shape.with(along, count)
      const index = dense(result, integers(result, shape[along]!, i))
      return [
        `${count} along ${axis} of [${shape.join()}]`,
        {
          params: [param(shape, i)],
          fn: (x) => x.gather(axis, ids(index.data, result)),
          reference: (x) => index.data.map((id, flat) => at(dense(shape, x), unravel(result, flat).with(along, id))),
          value: { abs: 0, rel: 0 },
        },
      ]
    })
    await expectAll(gpu, Object.fromEntries(cases))
  })

  test("indices may have fewer elements than the tensor off the axis, as in PyTorch", async () => {
    const cases = smaller.map(({ shape, axis, indices }, i): [string, Case] => {
      const index = dense(indices, integers(indices, shape[axis]!, i))
      return [
        `[${indices.join()}] along ${axis} of [${shape.join()}]`,
        {
          params: [param(shape, i)],
          fn: (x) => x.gather(axis, ids(index.data, indices)),
          reference: (x) => index.data.map((id, flat) => at(dense(shape, x), unravel(indices, flat).with(axis, id))),
          value: { abs: 0, rel: 0 },
        },
      ]
    })
    await expectAll(gpu, Object.fromEntries(cases))
  })

  test("indices may be u32; those of no element, however large, read 0", async () => {
    const x = gpu.tensor([5, 6, 7])
    const unsigned = gpu.tensor(Uint32Array.of(2, 0, 3, 2 ** 32 - 1))
    const results = await gpu.readAll([
      x.gather(0, unsigned),
      x.indexSelect(0, unsigned),
      x.scatter(0, unsigned, 9),
      x.scatterAdd(0, unsigned, gpu.ones([4])),
      unsigned.oneHot(3).sum(1),
    ])
    expect(results.map((array) => [...array])).toEqual([
      [7, 5, 0, 0],
      [7, 5, 0, 0],
      [9, 6, 9],
      [6, 6, 8],
      [1, 1, 0, 0],
    ])
  })

  test("indexSelect takes slices, in the shape of the indices", async () => {
    const cases = places.map(({ shape, axis, count }, i): [string, Case] => {
      const along = (axis + shape.length) % shape.length
      const list = integers([2, count], shape[along]!, i)
      const flat = shape.with(along, 2 * count)
      return [
        `[2, ${count}] along ${axis} of [${shape.join()}]`,
        {
          params: [param(shape, i)],
          fn: (x) => x.indexSelect(axis, ids(list, [2, count])),
          reference: (x) =>
            Float64Array.from({ length: sizeOf(flat) }, (_, k) => {
              const index = unravel(flat, k)
              return at(dense(shape, x), index.with(along, list[index[along]!]!))
            }),
        },
      ]
    })
    await expectAll(gpu, Object.fromEntries(cases))
    expect(gpu.zeros([5, 6]).indexSelect(1, ids([1, 2, 3, 4, 5, 0], [3, 2])).shape).toEqual([5, 3, 2])
  })

  test("oneHot names a place on a new axis", async () => {
    const hot = ids([2, 0, 5], [3]).oneHot(3)
    expect(hot.shape).toEqual([3, 3])
    expect([...(await hot.data())]).toEqual([0, 0, 1, 1, 0, 0, 0, 0, 0])
    expect(() => gpu.zeros([2]).oneHot(3)).toThrow(/oneHot: needs i32 or u32, got f32/)
  })

  test("keeps the bits of any dtype; an index that is none reads 0", async () => {
    const x = gpu.tensor(new Int32Array([2 ** 30 + 1, -7, 0x7fc00001]))
    expect([...(await x.gather(0, ids([2, -1, 0, 3], [4])).data())]).toEqual([0x7fc00001, 0, 2 ** 30 + 1, 0])
    expect(x.gather(0, ids([0], [1])).dtype).toBe("i32")
  })

  test.each([
    [() => gpu.zeros([3, 2]).gather(0, ids([0], [1])), /gather: indices \[1\] do not fit axis 0 of \[3, 2\]/],
    [
      () => gpu.zeros([3, 2]).gather(0, ids([0, 0, 0], [1, 3])),
      /gather: indices \[1, 3\] do not fit axis 0 of \[3, 2\]/,
    ],
    [() => gpu.zeros([3, 2]).gather(0, gpu.zeros([1, 2])), /gather: indices must be i32 or u32, not f32/],
    [() => gpu.zeros([3, 2]).indexSelect(0, gpu.zeros([1])), /indexSelect: indices must be i32 or u32, not f32/],
    [() => gpu.zeros([3, 2]).indexSelect(2, ids([0], [1])), /indexSelect: 2 is not an axis of \[3, 2\]/],
    [() => gpu.zeros([3]).scatter(0, ids([0, 1], [2]), gpu.zeros([1])), /scatter: values f32 \[1\] must be f32 \[2\]/],
    [
      () => gpu.zeros([3]).scatter(0, ids([0], [1]), gpu.zeros([1], "i32")),
      /scatter: values i32 \[1\] must be f32 \[1\]/,
    ],
    [
      () => gpu.zeros([3]).scatterAdd(0, ids([0, 1], [2]), gpu.zeros([1])),
      /scatterAdd: values f32 \[1\] must be f32 \[2\]/,
    ],
    [() => gpu.zeros([3], "i32").scatter(0, ids([0], [1]), 0.5), /scatter: 0.5 is no number of i32/],
    [
      () => gpu.zeros([3, 1]).scatter(0, ids([0, 1], [1, 2]), 1),
      /scatter: indices \[1, 2\] do not fit axis 0 of \[3, 1\]/,
    ],
  ])("refuses what does not fit", (call, message) => {
    expect(call).toThrow(ShapeError)
    expect(call).toThrow(message)
  })
})

describe("writing by index", () => {
  const scattered = (x: Dense, axis: number, index: Dense, source: Dense, add: boolean): Float64Array => {
    const out = x.data.slice()
    index.data.forEach((id, flat) => {
      const to = flatOf(x.shape, unravel(index.shape, flat).with(axis, id))
      out[to] = (add ? out[to]! : 0) + source.data[flat]!
    })
    return out
  }

  test.each([
    ["scatterAdd adds, repeatedly too", true],
    ["scatter writes, and the last of several stays", false],
  ])("%s, with gradients", async (_, add) => {
    const cases = places.map(({ shape, axis, count }, i): [string, Case] => {
      const along = (axis + shape.length) % shape.length
      const result = shape.with(along, count)
      const index = dense(result, integers(result, shape[along]!, i + 9))
      return [
        `${count} along ${axis} of [${shape.join()}]`,
        {
          params: [param(shape, i), param(result, i + 5)],
          fn: (x, source) =>
            add
              ? x.scatterAdd(axis, ids(index.data, result), source)
              : x.scatter(axis, ids(index.data, result), source),
          reference: (x, source) => scattered(dense(shape, x), along, index, dense(result, source), add),
        },
      ]
    })
    await expectAll(gpu, Object.fromEntries(cases))
  })

  test.each([true, false])(
    "where the indices do not reach, x stays; of larger values the first (add: %s)",
    async (add) => {
      const cases = smaller.map(({ shape, axis, indices }, i): [string, Case] => {
        const index = dense(indices, integers(indices, shape[axis]!, i + 9))
        const larger = indices.map((dim) => dim + (i % 2))
        const used = (source: Float64Array) =>
          dense(
            indices,
            index.data.map((_, flat) => at(dense(larger, source), unravel(indices, flat))),
          )
        return [
          `[${indices.join()}] along ${axis} of [${shape.join()}]`,
          {
            params: [param(shape, i), param(larger, i + 5)],
            fn: (x, source) =>
              add
                ? x.scatterAdd(axis, ids(index.data, indices), source)
                : x.scatter(axis, ids(index.data, indices), source),
            reference: (x, source) => scattered(dense(shape, x), axis, index, used(source), add),
          },
        ]
      })
      await expectAll(gpu, Object.fromEntries(cases))
    },
  )

  test("a number goes to every index, of any dtype", async () => {
    const index = ids([1, 1, 7], [1, 3])
    const results = await gpu.readAll([
      gpu.zeros([2, 3]).scatter(1, index, -2.5),
      gpu.zeros([2, 3], "i32").scatterAdd(1, index, 3),
      gpu.zeros([2, 3]).cast("bool").scatter(1, index, 1),
      gpu.zeros([2, 3], "bf16").scatter(1, index, 1),
    ])
    expect(results.map((array) => [...array])).toEqual([
      [0, -2.5, 0, 0, 0, 0],
      [0, 6, 0, 0, 0, 0],
      [0, 1, 0, 0, 0, 0],
      [0, 1, 0, 0, 0, 0],
    ])
    expect(gpu.zeros([2, 3]).cast("bool").scatter(1, index, 1).dtype).toBe("bool")
    const x = gpu.tensor([1, 2, 3])
    const kept = grad(
      x
        .scatter(0, ids([1], [1]), 5)
        .square()
        .sum(),
      [x],
    )
    expect([...(await kept[0]!.data())]).toEqual([2, 0, 6])
  })

  test("whole numbers are counted: a histogram", async () => {
    const bins = await gpu
      .zeros([4], "i32")
      .scatterAdd(0, ids([1, 3, 3, 1, 1, 9], [6]), gpu.ones([6], "i32"))
      .data()
    expect([...bins]).toEqual([0, 3, 0, 2])
  })

  test("the gradient of a gradient: both are linear", async () => {
    const x = gpu.tensor([1, 2, 3])
    const pick = ids([0, 2, 2], [3])
    const [first] = grad(x.gather(0, pick).pow(3).sum(), [x])
    const [second] = grad(first!.sum(), [x])
    expect((await gpu.readAll([first!, second!])).map((array) => [...array].map(Math.round))).toEqual([
      [3, 0, 54],
      [6, 0, 36],
    ])
  })
})
