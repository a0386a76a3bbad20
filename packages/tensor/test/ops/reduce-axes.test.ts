import { describe, expect, test } from "vitest"
import { grad, ShapeError, valueAndGrad, type Tensor } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { param } from "../gradient.ts"
import { dense, expectClose, expectSameBits, fold, randomArray, sizeOf, type Dense } from "../reference.ts"
import { expectAll, type Case } from "./many.ts"

const gpu = await testDevice()

/** The elements that fall together when `axes` are folded, in row-major order. */
const groups = ({ shape, data }: Dense, axes: readonly number[]): number[][] => {
  let arrays: { shape: readonly number[]; lists: number[][] } = { shape, lists: [...data].map((x) => [x]) }
  for (const axis of [...axes].sort((a, b) => b - a)) {
    const inner = sizeOf(arrays.shape.slice(axis + 1))
    const length = arrays.shape[axis]!
    const rest = arrays.shape.toSpliced(axis, 1)
    const lists = Array.from({ length: sizeOf(rest) }, (_, i) => {
      const first = Math.floor(i / inner) * length * inner + (i % inner)
      return Array.from({ length }, (_, k) => arrays.lists[first + k * inner]!).flat()
    })
    arrays = { shape: rest, lists }
  }
  return arrays.lists
}

const sum = (list: readonly number[]) => list.reduce((a, b) => a + b, 0)
const average = (list: readonly number[]) => sum(list) / list.length
const varianceOf = (list: readonly number[], correction = 1) =>
  sum(list.map((x) => (x - average(list)) ** 2)) / (list.length - correction)

type Reduction = readonly [
  fn: (x: Tensor, axes?: number | readonly number[]) => Tensor,
  reference: (list: number[]) => number,
]

const reductions: Readonly<Record<string, Reduction>> = {
  sum: [(x, axes) => x.sum(axes), sum],
  mean: [(x, axes) => x.mean(axes), average],
  max: [(x, axes) => x.max(axes), (list) => Math.max(...list)],
  min: [(x, axes) => x.min(axes), (list) => Math.min(...list)],
  prod: [(x, axes) => x.prod(axes), (list) => list.reduce((a, b) => a * b, 1)],
  var: [(x, axes) => x.var(axes), (list) => varianceOf(list)],
  std: [(x, axes) => x.std(axes, { correction: 0 }), (list) => Math.sqrt(varianceOf(list, 0))],
  norm: [(x, axes) => x.norm(axes), (list) => Math.hypot(...list)],
  logSumExp: [(x, axes) => x.logSumExp(axes), (list) => Math.log(sum(list.map(Math.exp)))],
}

describe("reductions", () => {
  const places = [
    { shape: [3, 4, 5], axes: 1 },
    { shape: [3, 4, 5], axes: [0, 2] },
    { shape: [2, 3, 4], axes: [-1, -2] },
    { shape: [7], axes: undefined },
  ] as const

  test.each(Object.entries(reductions))(
    "%s over one axis, several, and all, with gradients",
    async (_, [fn, reference]) => {
      const cases = places.map(({ shape, axes }, i): [string, Case] => {
        const folded = (axes === undefined ? shape.map((_, axis) => axis) : [axes].flat()).map(
          (axis) => (axis + shape.length) % shape.length,
        )
        return [
          `axes ${folded.join()} of [${shape.join()}]`,
          {
            params: [param(shape, i + 1, -1.5, 1.5)],
            fn: (x) => fn(x, axes),
            reference: (x) => groups(dense(shape, x), folded).map(reference),
            grad: { abs: 2e-4, rel: 2e-4 },
          },
        ]
      })
      await expectAll(gpu, Object.fromEntries(cases))
    },
  )

  test("keep reduced axes when told to", async () => {
    const x = gpu.tensor(randomArray(24, 1), [2, 3, 4])
    expect(x.sum(1, { keepDims: true }).shape).toEqual([2, 1, 4])
    expect(x.mean([0, 2], { keepDims: true }).shape).toEqual([1, 3, 1])
    expect(x.max(undefined, { keepDims: true }).shape).toEqual([1, 1, 1])
    expect(x.logSumExp([0, 1], { keepDims: true }).shape).toEqual([1, 1, 4])
    expect(x.std(-1, { keepDims: true }).shape).toEqual([2, 3, 1])
    expect(x.sum([]).shape).toEqual([2, 3, 4])
    expectSameBits(await x.sum([]).data(), await x.data())
  })

  /** Σ data[start … end − 1] in f32: 64 in order, then 64 of their sums, then 64 of those, and what is left in order. */
  const summed = (data: Float32Array, start: number, end: number, level = 3): number => {
    let total = 0
    if (level === 0) for (let k = start; k < end; k++) total = Math.fround(total + data[k]!)
    else
      for (let first = start; first < end; first += 64 ** level)
        total = Math.fround(total + summed(data, first, Math.min(first + 64 ** level, end), level - 1))
    return total
  }

  test("sums of millions lose no more than sums of a few", async () => {
    const [sum, column] = await gpu.readAll([gpu.full([10 ** 7], 0.1).sum(), gpu.full([10 ** 6, 2], 0.1).sum(0)])
    expectClose(sum!, [10 ** 7 * Math.fround(0.1)], { abs: 0, rel: 2e-6 })
    expectClose(column!, [10 ** 6 * Math.fround(0.1), 10 ** 6 * Math.fround(0.1)], { abs: 0, rel: 2e-6 })
  })

  test("long rows are folded by a tree of 64s, however many launches share them", async () => {
    for (const [rows, length] of [
      [1, 1000],
      [2, 4096],
      [1500, 70],
      [70, 5000],
      [3, 9001],
      [1, 600_000],
    ] as const) {
      const data = randomArray(rows * length, 3)
      const x = gpu.tensor(data, [rows, length])
      const [total, top] = await gpu.readAll([x.sum(1), x.max(1)])
      expectSameBits(
        total!,
        Array.from({ length: rows }, (_, row) => summed(data, row * length, (row + 1) * length)),
      )
      expectSameBits(top!, fold(dense([rows, length], data), 1, Number.NEGATIVE_INFINITY, Math.max).data)
    }
  })

  test("the norm of zeros has the gradient 0, others that of their direction", async () => {
    const x = gpu.tensor([0, 0, 3, 4], [2, 2])
    expect([...(await grad(x.norm(1).sum(), [x])[0]!.data())]).toEqual([0, 0, Math.fround(0.6), Math.fround(0.8)])
  })

  test.each([
    "sum",
    "mean",
    "max",
    "min",
    "prod",
    "var",
    "std",
    "norm",
    "logSumExp",
    "any",
    "all",
    "argMax",
    "argMin",
  ] as const)("%s names itself in its errors", (name) => {
    const x = gpu.zeros([2, 3]) as unknown as Record<string, (axis: number) => Tensor>
    expect(() => x[name]!(2)).toThrow(ShapeError)
    expect(() => x[name]!(2)).toThrow(new RegExp(`^${name}: 2 is not an axis of`))
  })

  test("of nothing: the neutral element, or a refusal", async () => {
    const x = gpu.zeros([2, 0, 3])
    const [sums, products, none] = await gpu.readAll([x.sum(1), x.prod(1), x.sum(0)])
    expect([...sums!]).toEqual([0, 0, 0, 0, 0, 0])
    expect([...products!]).toEqual([1, 1, 1, 1, 1, 1])
    expect([...none!]).toEqual([])
    expect(() => x.max(1)).toThrow(ShapeError)
    expect(() => x.argMax(1)).toThrow(ShapeError)
    expect(() => x.argMin(1)).toThrow(/argMin: there is no element to choose/)
  })

  test("of nothing, or of too few: what PyTorch gives", async () => {
    const none = gpu.zeros([2, 0])
    const results = [none.logSumExp(1), none.var(1), none.std(1), none.mean(1), gpu.zeros([1]).var()]
    expect((await gpu.readAll(results)).map((array) => [...array])).toEqual([
      [-Infinity, -Infinity],
      [Number.NaN, Number.NaN],
      [Number.NaN, Number.NaN],
      [Number.NaN, Number.NaN],
      [Number.NaN],
    ])
    expect(none.logSumExp(1, { keepDims: true }).shape).toEqual([2, 1])
  })

  test("that divide or take logarithms make f32 of whole numbers", async () => {
    const x = gpu.tensor(Int32Array.of(1, 2, 4))
    const results = await gpu.readAll([x.mean(), x.var(), x.std(), x.logSumExp()])
    const logSumExp = Math.log(Math.E + Math.exp(2) + Math.exp(4))
    const expected = [7 / 3, 7 / 3, Math.sqrt(7 / 3), logSumExp]
    results.forEach((array, i) => expect(array[0]).toBeCloseTo(expected[i]!, 6))
  })

  test("of whole numbers stay whole", async () => {
    const x = gpu.tensor(new Int32Array([2 ** 24 + 1, 2, -5, 7]), [2, 2])
    const results = await gpu.readAll([x.sum(0), x.max(1), x.min(), x.prod(1), x.mean(1)])
    expect(results.map((array) => [...array])).toEqual([
      [2 ** 24 - 4, 9],
      [2 ** 24 + 1, 7],
      [-5],
      [2 ** 25 + 2, -35],
      [2 ** 23 + 1, 1],
    ])
    expect(x.sum(0).dtype).toBe("i32")
  })

  test("infinities: the largest of −∞ is −∞, and log-sum-exp follows", async () => {
    const x = gpu.tensor(new Float32Array(4).fill(Number.NEGATIVE_INFINITY), [2, 2])
    const [top, total] = await gpu.readAll([x.max(1), x.logSumExp(1)])
    expect([...top!, ...total!]).toEqual(Array(4).fill(Number.NEGATIVE_INFINITY))
  })

  test("a product has a gradient where factors are zero", async () => {
    const x = gpu.tensor([2, 0, 3, 0, 0, 4], [2, 3])
    const { grads } = valueAndGrad((a) => a.prod(1).sum(), [x])
    expect([...(await grads[0]!.data())]).toEqual([0, 6, 0, 0, 0, 0])
  })

  test("equal extrema share the gradient", async () => {
    const { grads } = valueAndGrad((a) => a.max(1).sum(), [gpu.tensor([1, 5, 5, 2, 2, 2], [2, 3])])
    expect([...(await grads[0]!.data())].map((v) => Math.round(v * 6))).toEqual([0, 3, 3, 2, 2, 2])
  })
})

describe("arg reductions and scans", () => {
  test("argMax and argMin name the first of equals", async () => {
    const x = gpu.tensor([1, 7, 7, -2, -2, 0], [2, 3])
    const results = await gpu.readAll([
      x.argMax(1),
      x.argMin(1),
      x.argMax(0),
      x.argMax(),
      x.argMin(0, { keepDims: true }),
    ])
    expect(results.map((array) => [...array])).toEqual([[1, 2], [0, 0], [0, 0, 0], [1], [1, 1, 1]])
    expect(x.argMax(1).dtype).toBe("i32")
    expect([...(await x.cast("i32").argMax(-1).data())]).toEqual([1, 2])
  })

  test("accuracy is a line", async () => {
    const logits = gpu.tensor([1, 3, 2, 9, 1, 0], [2, 3])
    const labels = gpu.tensor(new Int32Array([1, 2]))
    expect(await logits.argMax(1).equal(labels).mean().item()).toBe(0.5)
  })

  test("cumSum runs along any axis, either way, with gradients", async () => {
    const shape = [3, 4, 2]
    const running = (x: Float64Array, axis: number, reverse: boolean, exclusive: boolean) => {
      const inner = sizeOf(shape.slice(axis + 1))
      return x.map((_, i) => {
        const place = Math.floor(i / inner) % shape[axis]!
        let total = 0
        for (let k = 0; k < shape[axis]!; k++) {
          const before = reverse ? k > place : k < place
          if (before || (k === place && !exclusive)) total += x[i + (k - place) * inner]!
        }
        return total
      })
    }
    const cases = (
      [
        [0, false, false],
        [1, true, false],
        [2, false, true],
        [1, true, true],
      ] as const
    ).map(([axis, reverse, exclusive], i): [string, Case] => [
      `axis ${axis}${reverse ? " reverse" : ""}${exclusive ? " exclusive" : ""}`,
      {
        params: [param(shape, i)],
        fn: (x) => x.cumSum(axis, { reverse, exclusive }),
        reference: (x) => running(x, axis, reverse, exclusive),
      },
    ])
    await expectAll(gpu, Object.fromEntries(cases))
    expect([
      ...(await gpu
        .tensor(new Int32Array([1, 2, 3]))
        .cumSum(0)
        .data()),
    ]).toEqual([1, 3, 6])
  })
})
