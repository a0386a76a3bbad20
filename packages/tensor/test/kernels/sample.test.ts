import { describe, expect, test } from "vitest"
import { pcg4d, sample, ShapeError, type SampleOptions } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { randomArray } from "../reference.ts"

const gpu = await testDevice()

const plain: SampleOptions = { temperature: 1, topK: 0, topP: 1, minP: 0 }

/** Keys (seed, 0, 0, 0), (seed, 1, 0, 0), … */
const countedKeys = (count: number, seed: number): Uint32Array<ArrayBuffer> =>
  Uint32Array.from({ length: 4 * count }, (_, i) => (i % 4 === 0 ? seed : i % 4 === 1 ? Math.floor(i / 4) : 0))

const draw = async (
  logits: ArrayLike<number>,
  keys: Uint32Array<ArrayBuffer>,
  options: Partial<SampleOptions> = {},
): Promise<Int32Array> => {
  const rows = keys.length / 4
  const tensors = [
    gpu.tensor(Float32Array.from(logits), [rows, logits.length / rows]),
    gpu.tensor(keys, [rows, 4]),
  ] as const
  return (await sample(...tensors, { ...plain, ...options }).data()) as Int32Array
}

/** The same logits in every row, one draw per row. */
const drawMany = (logits: ArrayLike<number>, count: number, seed: number, options: Partial<SampleOptions> = {}) => {
  const all = new Float32Array(count * logits.length)
  for (let row = 0; row < count; row++) all.set(Float32Array.from(logits), row * logits.length)
  return draw(all, countedKeys(count, seed), options)
}

/** Tokens that HF's warpers keep, in their order: temperature, top-k, top-p, min-p. */
const kept = (logits: ArrayLike<number>, { temperature, topK, topP, minP }: SampleOptions): Set<number> => {
  const scaled = Float64Array.from(logits, (z) => z / temperature)
  let order = [...scaled.keys()].sort((a, b) => scaled[b]! - scaled[a]!)
  if (topK > 0) order = order.slice(0, topK)
  const weights = order.map((token) => Math.exp(scaled[token]! - scaled[order[0]!]!))
  const total = weights.reduce((a, b) => a + b, 0)
  if (topP < 1) {
    let share = 0
    order = order.filter((_, i) => {
      const needed = share < topP * total
      share += weights[i]!
      return needed
    })
  }
  return new Set(order.filter((_, i) => weights[i]! >= minP))
}

/** Upper 1e-6 quantile of χ² with `freedom` degrees (Wilson and Hilferty, 1931). */
const chiSquareLimit = (freedom: number): number => {
  const z = 4.753
  return freedom * (1 - 2 / (9 * freedom) + z * Math.sqrt(2 / (9 * freedom))) ** 3
}

describe("sample", () => {
  test("at temperature 0 takes the likeliest token, the first of equals", async () => {
    const logits = [-5, 3, 3, 1, 0, /* */ -1e30, -9, -8, -8, -8.5, /* */ 2, 1, 0, -1, 2]
    expect([...(await draw(logits, countedKeys(3, 1), { temperature: 0 }))]).toEqual([1, 2, 0])
    const wide = randomArray(5 * 1000, 1)
    const tokens = await draw(wide, countedKeys(5, 2), { temperature: 0, topK: 3, topP: 0.1, minP: 0.5 })
    const expected = Array.from({ length: 5 }, (_, row) => {
      const part = wide.subarray(row * 1000, (row + 1) * 1000)
      return part.indexOf(part.reduce((a, b) => Math.max(a, b)))
    })
    expect([...tokens]).toEqual(expected)
  })

  test.each([
    { temperature: 1, seed: 3 },
    { temperature: 0.5, seed: 4 },
    { temperature: 2, seed: 5 },
  ])("draws from softmax(logits / $temperature)", async ({ temperature, seed }) => {
    const logits = [0, 1.5, -1, 0.3, 2, -0.7, 1, 1, -2, 0.1, 0.9]
    const count = 20_000
    const tokens = await drawMany(logits, count, seed, { temperature })
    const counts = logits.map(() => 0)
    for (const token of tokens) counts[token]!++
    const weights = logits.map((z) => Math.exp(z / temperature))
    const total = weights.reduce((a, b) => a + b, 0)
    const chiSquare = counts.reduce((sum, n, i) => {
      const expected = (count * weights[i]!) / total
      return sum + (n - expected) ** 2 / expected
    }, 0)
    expect(chiSquare).toBeLessThan(chiSquareLimit(logits.length - 1))
  })

  test("keeps the odds of unlikely tokens", async () => {
    // One token of probability 0.9; a thousand that share the rest.
    const logits = [Math.log(9000), ...Array.from({ length: 1000 }, () => 0)]
    const count = 4000
    const tokens = await drawMany(logits, count, 6)
    const rest = tokens.filter((token) => token > 0).length
    expect(Math.abs(rest - 0.1 * count)).toBeLessThan(5 * Math.sqrt(count * 0.1 * 0.9))
    expect(new Set(tokens).size).toBeGreaterThan(200)
  })

  test("never draws a token that has next to no probability, whatever the random word", async () => {
    // The noise of token 2 comes from a word whose 24 high bits are ones: rounded to f32, it must not become 1.
    const key = [2_572_360, 0, 0, 0] as const
    expect(pcg4d(key[0], 0, 0, 0x9e3779b9)[2] >>> 8).toBe(0xffffff)
    for (let likely = 0; likely < 4; likely++) {
      const logits = [0, 1, 2, 3].map((token) => (token === likely ? 0 : -60))
      expect([...(await draw(logits, Uint32Array.from(key)))]).toEqual([likely])
    }
  })

  test.each([
    { topK: 1 },
    { topK: 7 },
    { topK: 500 },
    { topP: 0.5 },
    { topP: 0.05 },
    { topP: 0.9, temperature: 0.6 },
    { minP: 0.3 },
    { minP: 0.2, temperature: 1.7 },
    { topK: 9, topP: 0.7 },
    { topK: 12, topP: 0.95, minP: 0.4, temperature: 1.3 },
  ])("keeps exactly the tokens that %o keeps", async (partial) => {
    const options = { ...plain, ...partial }
    const logits = randomArray(40, 7, -1.5, 2.5)
    const expected = kept(logits, options)
    const tokens = await drawMany(logits, 4000, 8, options)
    expect([...new Set(tokens)].sort((a, b) => a - b)).toEqual([...expected].sort((a, b) => a - b))
  })

  test("keeps negative logits and zeros in order", async () => {
    const logits = [-3, -1, 0, -2, -0.5, -4]
    expect(new Set(await drawMany(logits, 500, 9, { topK: 3 }))).toEqual(new Set([2, 4, 1]))
  })

  test("equal keys draw equal tokens, whatever the row and the batch", async () => {
    const logits = randomArray(300, 10, -3, 3)
    const many = await drawMany(logits, 70, 11)
    for (const row of [0, 5, 69]) {
      const alone = await draw(logits, countedKeys(70, 11).slice(4 * row, 4 * row + 4))
      expect(alone[0]).toBe(many[row])
    }
    const same = new Uint32Array(4 * 65).map((_, i) => [1, 2, 3, 4][i % 4]!)
    expect(new Set(await draw(Array.from({ length: 65 }, () => [...logits]).flat(), same)).size).toBe(1)
    expect(new Set(many).size).toBeGreaterThan(20)
  })

  test("every word of the key counts", async () => {
    const logits = randomArray(1000, 12, -0.1, 0.1)
    const keys = [
      [0, 0, 0, 0],
      [1, 0, 0, 0],
      [0, 1, 0, 0],
      [0, 0, 1, 0],
      [0, 0, 0, 1],
    ]
    const tokens = await draw(
      keys.flatMap(() => [...logits]),
      Uint32Array.from(keys.flat()),
    )
    expect(new Set(tokens).size).toBe(keys.length)
  })

  test("names what does not fit", () => {
    const message = /sample: needs logits \[N, V\] and u32 keys \[N, 4\], got \[2, 5\] and f32 \[2, 4\]/
    expect(() => sample(gpu.zeros([2, 5]), gpu.zeros([2, 4]), plain)).toThrow(message)
    expect(() => sample(gpu.zeros([2, 5]), gpu.zeros([3, 4], "u32"), plain)).toThrow(ShapeError)
  })
})
