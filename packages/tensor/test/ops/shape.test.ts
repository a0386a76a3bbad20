import { describe, expect, test } from "vitest"
import { concat, ShapeError, stack, valueAndGrad, type Range, type Tensor } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { param } from "../gradient.ts"
import { at, dense, expectSameBits, randomArray, sizeOf, unravel, type Dense } from "../reference.ts"
import { expectAll, type Case } from "./many.ts"

const gpu = await testDevice()

/** A dense array of `shape` whose elements are read from `source` at the index that `from` tells; 0 where it tells none. */
const gatherFrom = (
  source: Dense,
  shape: readonly number[],
  from: (index: number[]) => readonly number[] | undefined,
): Float64Array =>
  Float64Array.from({ length: sizeOf(shape) }, (_, flat) => {
    const index = from(unravel(shape, flat))
    return index ? at(source, index) : 0
  })

/** Python's slice: the indices that [start, stop, step] takes of an axis. */
const indices = (dim: number, range: Range): number[] => {
  const [start, stop, step] = range === null || typeof range === "number" ? [range, null, 1] : range
  const by = step ?? 1
  const clip = (index: number, low: number, high: number) =>
    Math.min(Math.max(index < 0 ? index + dim : index, low), high)
  const from = start == null ? (by > 0 ? 0 : dim - 1) : by > 0 ? clip(start, 0, dim) : clip(start, -1, dim - 1)
  const to = stop == null ? (by > 0 ? dim : -1) : by > 0 ? clip(stop, 0, dim) : clip(stop, -1, dim - 1)
  const list: number[] = []
  for (let i = from; by > 0 ? i < to : i > to; i += by) list.push(i)
  return list
}

describe("slice", () => {
  const cases: readonly (readonly [shape: readonly number[], ...ranges: Range[]])[] = [
    [
      [5, 4],
      [1, 3],
    ],
    [[5, 4], null, [-3, -1]],
    [
      [5, 8],
      [4, null, -2],
      [0, 8, 4],
    ],
    [[7], [null, null, -1]],
    [[7], [-2, 0, -3]],
    [[3, 4, 5], 1, null, [1, null, 2]],
    [[3, 4, 5], null, -1, -2],
    [
      [6, 8],
      [2, 4],
      [4, 8],
    ],
    [
      [4, 3],
      [3, 1],
    ],
    [
      [1, 6],
      [0, 1],
      [null, 4],
    ],
    [[4], [-9, 99]],
  ]

  test("takes what Python takes, and its gradient goes back there", async () => {
    const entries = cases.map(([shape, ...ranges], i): [string, Case] => {
      const taken = shape.map((dim, axis) => {
        const range = ranges[axis] ?? null
        return typeof range === "number" ? [range < 0 ? range + dim : range] : indices(dim, range)
      })
      const result = taken.map((list) => list.length)
      return [
        `${JSON.stringify(ranges)} of [${shape.join()}]`,
        {
          params: [param(shape, i + 1)],
          fn: (x) => x.slice(...ranges),
          reference: (x) => gatherFrom(dense(shape, x), result, (index) => index.map((k, axis) => taken[axis]![k]!)),
          value: { abs: 0, rel: 0 },
        },
      ]
    })
    await expectAll(gpu, Object.fromEntries(entries))
  })

  test("a number drops its axis", () => {
    expect(gpu.zeros([3, 4, 5]).slice(1, null, [1, null, 2]).shape).toEqual([4, 2])
    expect(gpu.zeros([3]).slice(-1).shape).toEqual([])
  })

  test("of integers keeps them", async () => {
    const x = gpu.tensor(new Int32Array([2 ** 25 + 1, 5, -3]))
    expect([...(await x.slice([null, null, -2]).data())]).toEqual([-3, 2 ** 25 + 1])
  })

  test.each([
    [() => gpu.zeros([3]).slice(3), /slice: 3 is not an index of axis 0 of \[3\]/],
    [() => gpu.zeros([3]).slice([0, 1, 0]), /step must be a whole number but 0/],
    [() => gpu.zeros([3]).slice(0, 0), /2 ranges are too many for \[3\]/],
  ])("refuses what is not there", (call, message) => {
    expect(call).toThrow(ShapeError)
    expect(call).toThrow(message)
  })
})

describe("other views", () => {
  const views: Readonly<
    Record<
      string,
      readonly [
        shape: readonly number[],
        fn: (x: Tensor) => Tensor,
        result: readonly number[],
        from: (index: number[]) => number[],
      ]
    >
  > = {
    transpose: [[2, 3, 4], (x) => x.transpose(), [4, 3, 2], ([a, b, c]) => [c!, b!, a!]],
    "transpose of some": [[2, 3, 4], (x) => x.transpose([1, 0, -1]), [3, 2, 4], ([a, b, c]) => [b!, a!, c!]],
    broadcastTo: [[3, 1], (x) => x.broadcastTo([2, 3, 4]), [2, 3, 4], ([, b]) => [b!, 0]],
    "broadcastTo with size one kept": [[1, 3], (x) => x.broadcastTo([1, 3]), [1, 3], (index) => index],
    flip: [[3, 4], (x) => x.flip(), [3, 4], ([a, b]) => [2 - a!, 3 - b!]],
    "flip of one axis": [[3, 4], (x) => x.flip(-1), [3, 4], ([a, b]) => [a!, 3 - b!]],
    repeat: [[2, 3], (x) => x.repeat([2, 1, 2]), [2, 2, 6], ([, b, c]) => [b!, c! % 3]],
    repeatInterleave: [[2, 3], (x) => x.repeatInterleave(2, 1), [2, 6], ([a, b]) => [a!, b! >> 1]],
    diagonal: [[3, 4], (x) => x.diagonal(), [3], ([i]) => [i!, i!]],
    "diagonal above": [[3, 4], (x) => x.diagonal(2), [2], ([i]) => [i!, i! + 2]],
    "diagonal below, of a batch": [[2, 3, 3], (x) => x.diagonal(-1), [2, 2], ([b, i]) => [b!, i! + 1, i!]],
    "a view of a view": [
      [4, 6],
      (x) => x.transpose().slice([1, null, 2], [null, null, -1]),
      [3, 4],
      ([a, b]) => [3 - b!, 1 + 2 * a!],
    ],
    "flatten of some": [[2, 3, 4], (x) => x.flatten(1), [2, 12], ([a, b]) => [a!, b! >> 2, b! & 3]],
    flatten: [[2, 3], (x) => x.flatten(), [6], ([i]) => [Math.floor(i! / 3), i! % 3]],
    roll: [[2, 5], (x) => x.roll(2, 1), [2, 5], ([a, b]) => [a!, (b! + 3) % 5]],
    "roll back": [[5, 2], (x) => x.roll(-6, 0), [5, 2], ([a, b]) => [(a! + 1) % 5, b!]],
    unsqueeze: [[2, 3], (x) => x.unsqueeze(1).unsqueeze(-1), [2, 1, 3, 1], ([a, , c]) => [a!, c!]],
    squeeze: [[1, 3, 1, 2], (x) => x.squeeze(), [3, 2], ([a, b]) => [0, a!, 0, b!]],
    "squeeze of one axis": [[1, 3, 1], (x) => x.squeeze(-1), [1, 3], ([a, b]) => [a!, b!, 0]],
  }

  test("read the elements they should, with gradients", async () => {
    const entries = Object.entries(views).map(([name, [shape, fn, result, from]], i): [string, Case] => [
      name,
      {
        params: [param(shape, i + 1)],
        fn,
        reference: (x) => gatherFrom(dense(shape, x), result, from),
        value: { abs: 0, rel: 0 },
      },
    ])
    for (const [name, [shape, fn, result]] of Object.entries(views))
      expect(fn(gpu.zeros(shape)).shape, name).toEqual(result)
    await expectAll(gpu, Object.fromEntries(entries))
  })

  test("reshape infers one dimension and refuses what does not fit", () => {
    expect(gpu.zeros([4, 6]).reshape([3, -1]).shape).toEqual([3, 8])
    expect(gpu.zeros([0, 6]).reshape([-1, 3]).shape).toEqual([0, 3])
    expect(() => gpu.zeros([4]).reshape([3, -1])).toThrow(/reshape: \[4\] does not fit \[3, -1\]/)
    expect(() => gpu.zeros([4]).reshape([-1, -1])).toThrow(/reshape: only one dimension of \[-1, -1\] may be −1/)
    expect(gpu.zeros([]).flatten().shape).toEqual([1])
    expect(() => gpu.zeros([2, 3]).flatten(1, 0)).toThrow(/flatten: axis 1 of \[2, 3\] is behind axis 0/)
  })

  test("lists given as several numbers are refused with the right form", () => {
    const x = gpu.zeros([2, 3]) as unknown as Record<string, (...numbers: number[]) => Tensor>
    for (const [call, message] of [
      [() => x.reshape!(3, 2), /reshape: takes a list, as in reshape\(\[2, 3\]\), not 3/],
      [() => x.transpose!(0, 1), /transpose: takes a list, as in transpose\(\[1, 0\]\), not 0/],
      [() => x.broadcastTo!(2, 3), /broadcastTo: takes a list/],
      [() => x.repeat!(2, 1), /repeat: takes a list/],
      [() => x.pad!(1, 1), /pad: takes a list/],
    ] as const) {
      expect(call).toThrow(ShapeError)
      expect(call).toThrow(message)
    }
  })

  test("triangles", async () => {
    const x = gpu.tensor(randomArray(24, 1), [2, 3, 4])
    const results = await gpu.readAll([x.tril(), x.tril(-1), x.triu(), x.triu(2), gpu.ones([3, 3]).triu(1)])
    const keep = (inside: (row: number, column: number) => boolean) => gatherFromBatch(inside)
    const data = await x.data()
    const gatherFromBatch = (inside: (row: number, column: number) => boolean) =>
      data.map((value, i) => (inside(Math.floor(i / 4) % 3, i % 4) ? value : 0))
    expectSameBits(
      results[0]!,
      keep((row, column) => column <= row),
    )
    expectSameBits(
      results[1]!,
      keep((row, column) => column <= row - 1),
    )
    expectSameBits(
      results[2]!,
      keep((row, column) => column >= row),
    )
    expectSameBits(
      results[3]!,
      keep((row, column) => column >= row + 2),
    )
    expect([...results[4]!]).toEqual([0, 1, 1, 0, 0, 1, 0, 0, 0])
    const { grads } = valueAndGrad((a) => a.tril().sum(), [x])
    expectSameBits(
      await grads[0]!.data(),
      data.map((_, i) => (i % 4 <= Math.floor(i / 4) % 3 ? 1 : 0)),
    )
  })
})

describe("putting together and apart", () => {
  test("pad surrounds, and its gradient is the middle", async () => {
    const padded = (x: Dense, widths: readonly (readonly [number, number])[], value: number) => {
      const shape = x.shape.map((dim, axis) => dim + widths[axis]![0] + widths[axis]![1])
      return Float64Array.from({ length: sizeOf(shape) }, (_, flat) => {
        const index = unravel(shape, flat).map((k, axis) => k - widths[axis]![0])
        return index.every((k, axis) => k >= 0 && k < x.shape[axis]!) ? at(x, index) : value
      })
    }
    const cases = (
      [
        [
          [2, 3],
          [
            [1, 2],
            [0, 1],
          ],
          0,
        ],
        [
          [2, 3],
          [
            [0, 0],
            [2, 0],
          ],
          1.5,
        ],
        [[4], [[3, 3]], -1],
        [
          [2, 4, 4],
          [
            [0, 0],
            [1, 1],
            [0, 0],
          ],
          0,
        ],
        [
          [0, 2],
          [
            [1, 1],
            [0, 0],
          ],
          7,
        ],
      ] as const
    ).map(([shape, widths, value], i): [string, Case] => [
      `${JSON.stringify(widths)} around [${shape.join()}]`,
      {
        params: [param(shape, i + 1)],
        fn: (x) => x.pad(widths, value),
        reference: (x) => padded(dense(shape, x), widths, value),
      },
    ])
    await expectAll(gpu, Object.fromEntries(cases))
    expect([
      ...(await gpu
        .tensor(new Int32Array([3]))
        .pad([[1, 0]], -2)
        .data()),
    ]).toEqual([-2, 3])
    expect(() => gpu.zeros([2]).pad([[-1, 0]])).toThrow(/pad: \[\[-1,0\]\] is not a pair of widths/)
  })

  test("concat joins along any axis, empty parts too, with gradients", async () => {
    const joined = (axis: number, parts: readonly Dense[]) => {
      const lengths = parts.map(({ shape }) => shape[axis]!)
      const shape = parts[0]!.shape.with(
        axis,
        lengths.reduce((a, b) => a + b),
      )
      return Float64Array.from({ length: sizeOf(shape) }, (_, flat) => {
        const index = unravel(shape, flat)
        let part = 0
        while (index[axis]! >= lengths[part]!) index[axis]! -= lengths[part++]!
        return at(parts[part]!, index)
      })
    }
    const cases = (
      [
        [0, [2, 3], [1, 3], [4, 3]],
        [1, [2, 3], [2, 0], [2, 5]],
        [-1, [2, 2, 4], [2, 2, 4]],
        [1, [2, 1, 3], [2, 4, 3]],
      ] as const
    ).map(([axis, ...shapes], i): [string, Case] => [
      `${JSON.stringify(shapes)} along ${axis}`,
      {
        params: shapes.map((shape, k) => param(shape, 10 * i + k)),
        fn: (...parts) => concat(parts, axis),
        reference: (...parts) =>
          joined(
            (axis + shapes[0].length) % shapes[0].length,
            parts.map((x, k) => dense(shapes[k]!, x)),
          ),
        value: { abs: 0, rel: 0 },
      },
    ])
    await expectAll(gpu, Object.fromEntries(cases))
    expect(() => concat([gpu.zeros([2, 3]), gpu.zeros([2, 4])])).toThrow(/concat: shapes \[2, 3\] and \[2, 4\] differ/)
    expect(() => concat([gpu.zeros([2]), gpu.zeros([2], "i32")])).toThrow(/concat: f32 and i32 do not mix/)
    expect(() => concat([])).toThrow(ShapeError)
  })

  test("stack makes an axis", async () => {
    const [a, b] = [gpu.tensor(new Int32Array([1, 2])), gpu.tensor(new Int32Array([3, 4]))]
    const results = await gpu.readAll([stack([a, b]), stack([a, b], -1)])
    expect(results.map((array) => [...array])).toEqual([
      [1, 2, 3, 4],
      [1, 3, 2, 4],
    ])
    expect(stack([a, b]).dtype).toBe("i32")
  })

  test("split undoes concat", async () => {
    const data = randomArray(24, 5)
    const x = gpu.tensor(data, [2, 6, 2])
    expect(x.split(4, 1).map(({ shape }) => shape)).toEqual([
      [2, 4, 2],
      [2, 2, 2],
    ])
    expectSameBits(await concat(x.split([1, 3, 2], 1), 1).data(), data)
    expect(() => x.split([1, 2], 1)).toThrow(/sizes \[1, 2\] do not add up to 6/)
  })

  test("chunk and unbind are splits too", async () => {
    const data = randomArray(24, 5)
    const x = gpu.tensor(data, [2, 6, 2])
    expect(x.chunk(4, 1).map(({ shape }) => shape[1])).toEqual([2, 2, 2])
    expect(x.chunk(5, -1).map(({ shape }) => shape[2])).toEqual([1, 1])
    expect(x.unbind(1).map(({ shape }) => shape)).toEqual(Array.from({ length: 6 }, () => [2, 2]))
    expectSameBits(await concat(x.chunk(4, 1), 1).data(), data)
    expectSameBits(await stack(x.unbind(1), 1).data(), data)
    expect(() => x.chunk(0)).toThrow(/chunk: the number of parts is whole and above 0, not 0/)
    expect(() => x.roll(0.5, 0)).toThrow(/roll: moves by a whole number of elements, not 0.5/)
  })
})

describe("making tensors", () => {
  test("counts, grids and constants", async () => {
    const results = await gpu.readAll([
      gpu.arange(4),
      gpu.arange(3, { start: 5, step: -2, dtype: "i32" }),
      gpu.linspace(0, 1, 5),
      gpu.eye(2, 3),
      gpu.ones([2], "u32"),
      gpu.full([2], -3, "i32"),
      gpu.zeros([3], "bf16"),
      gpu.half(new Uint16Array([0x3c00, 0xc000, 0x3800]), [3], "f16"),
    ])
    expect(results.map((array) => [...array])).toEqual([
      [0, 1, 2, 3],
      [5, 3, 1],
      [0, 0.25, 0.5, 0.75, 1],
      [1, 0, 0, 0, 1, 0],
      [1, 1],
      [-3, -3],
      [0, 0, 0],
      [1, -2, 0.5],
    ])
  })

  test("like another: without memory of their own", async () => {
    const x = gpu.tensor(new Int32Array([4, 5]))
    const results = await gpu.readAll([x.zerosLike(), x.onesLike(), x.fullLike(9)])
    expect(results.map((array) => [...array])).toEqual([
      [0, 0],
      [1, 1],
      [9, 9],
    ])
    expect(x.onesLike().dtype).toBe("i32")
  })
})
