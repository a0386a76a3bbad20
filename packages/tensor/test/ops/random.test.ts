import { describe, expect, test } from "vitest"
import { dropout, grad, pcg4d, random, ShapeError } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectClose, expectSameBits } from "../reference.ts"

const gpu = await testDevice()
const seed = 2 ** 40 + 7
const key = random.key(gpu, seed)

const mean = (array: ArrayLike<number>) => Array.from(array).reduce((a, b) => a + b, 0) / array.length
const deviation = (array: ArrayLike<number>) => {
  const center = mean(array)
  return Math.sqrt(mean(Array.from(array, (x) => (x - center) ** 2)))
}

describe("random numbers on the GPU", () => {
  test("are the host's", async () => {
    const [uniform, normal, ofHost, normalOfHost] = await gpu.readAll([
      random.uniform(key, [7, 11]),
      random.normal(key, [77], { mean: 1, std: 2 }),
      gpu.uniform([77], { seed }),
      gpu.normal([77], { seed, mean: 1, std: 2 }),
    ])
    expectSameBits(uniform!, ofHost!)
    expectClose(normal!, normalOfHost!, { abs: 2e-3, rel: 1e-3 })
    const words = await random.bits(key, [5]).data()
    const expected = [0, 1].flatMap((counter) => pcg4d(seed >>> 0, Math.floor(seed / 2 ** 32), counter, 2))
    expect([...words]).toEqual(expected.slice(0, 5))
  })

  test("are a function of position alone", async () => {
    const [few, many] = await gpu.readAll([random.uniform(key, [6]), random.uniform(key, [10, 100])])
    expectSameBits(few!, many!.subarray(0, 6))
    expect([...(await random.normal(key, [0]).data())]).toEqual([])
  })

  test("have the moments they should", async () => {
    const [uniform, normal, coin] = await gpu.readAll([
      random.uniform(key, [20_000], { low: -2, high: 4 }),
      random.normal(key, [20_000]),
      random.bernoulli(key, [20_000], 0.3),
    ])
    expect(mean(uniform!)).toBeCloseTo(1, 1)
    expect(deviation(uniform!)).toBeCloseTo(6 / Math.sqrt(12), 1)
    expect(Math.min(...uniform!)).toBeGreaterThan(-2)
    expect(Math.max(...uniform!)).toBeLessThan(4)
    expect(mean(normal!)).toBeCloseTo(0, 1)
    expect(deviation(normal!)).toBeCloseTo(1, 1)
    expect(mean(coin!)).toBeCloseTo(0.3, 1)
    expect(new Set(coin!)).toEqual(new Set([0, 1]))
  })

  test("whole numbers cover their range evenly", async () => {
    const [dice, wide] = await gpu.readAll([
      random.integers(key, [12_000], -1, 5),
      random.integers(key, [4000], -(2 ** 31), 2 ** 31 - 1),
    ])
    const counts = [-1, 0, 1, 2, 3, 4].map((face) => dice!.filter((x) => x === face).length)
    expect(counts.reduce((a, b) => a + b)).toBe(12_000)
    for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(200)
    expect(Math.abs(mean(wide!)) / 2 ** 31).toBeLessThan(0.05)
    expect(deviation(wide!) / 2 ** 32).toBeCloseTo(1 / Math.sqrt(12), 1)
  })

  test("whole numbers may be all that there are", async () => {
    const all = random.integers(key, [4000], -(2 ** 31), 2 ** 31)
    const [numbers, words] = await gpu.readAll([all, random.integers(key, [4000], -(2 ** 31), 2 ** 31 - 1)])
    expect(Math.abs(mean(numbers!)) / 2 ** 31).toBeLessThan(0.05)
    // One number more moves each of them by one at most.
    numbers!.forEach((x, i) => expect(Math.abs(x - words![i]!)).toBeLessThan(2))
  })

  test("a permutation has every number once, and another key another order", async () => {
    const [a, b] = await gpu.readAll(random.split(key).map((part) => random.permutation(part, 300)))
    expect([...a!].sort((x, y) => x - y)).toEqual(Array.from({ length: 300 }, (_, i) => i))
    expect([...a!]).not.toEqual([...b!])
  })

  test("keys that are split or folded are new, and repeat", async () => {
    const keys = [
      key,
      ...random.split(key, 3),
      random.fold(key, 0),
      random.fold(key, 7),
      random.fold(key, gpu.tensor(new Uint32Array([7]))),
    ]
    const words = (await gpu.readAll(keys)).map((array) => [...array].join())
    expect(new Set(words).size).toBe(6)
    expect(words[6]).toBe(words[5])
  })

  test("a recorded program draws anew with every number that is folded in", async () => {
    const step = gpu.compile((count) => random.uniform(random.fold(key, count), [3]))
    const at = async (n: number) => [...(await step(gpu.tensor(new Uint32Array([n]))).data())]
    expect(await at(1)).not.toEqual(await at(2))
    expect(await at(1)).toEqual(await at(1))
  })

  test("need a key", () => {
    expect(() => random.uniform(gpu.zeros([2]), [3])).toThrow(ShapeError)
    expect(() => random.uniform(gpu.zeros([2]), [3])).toThrow(/a key is u32 \[2\], not f32 \[2\]/)
  })
})

describe("dropout", () => {
  test("drops what the mask says and scales the rest; so does its gradient", async () => {
    const x = gpu.ones([1000])
    const [mask, dropped, gradient] = await gpu.readAll([
      random.uniform(key, [1000]).greaterEqual(0.2),
      dropout(x, key, 0.2),
      ...grad(dropout(x, key, 0.2).mul(3).sum(), [x]),
    ])
    expectClose(
      dropped!,
      [...mask!].map((kept) => kept / 0.8),
    )
    expectClose(
      gradient!,
      [...mask!].map((kept) => (3 * kept) / 0.8),
    )
    expect(mean(mask!)).toBeCloseTo(0.8, 1)
  })

  test("of nothing changes nothing, and a rate must be one", () => {
    const x = gpu.ones([3])
    expect(dropout(x, key, 0)).toBe(x)
    expect(() => dropout(x, key, 1)).toThrow(/dropout: the rate must be in \[0, 1\), not 1/)
  })
})
