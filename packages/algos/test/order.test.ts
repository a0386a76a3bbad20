import { describe, expect, it } from "vitest"
import { learningRateFactor, type LrSchedulerType, permute, rolloutSeed, rowsOfStep } from "../src/index.ts"
import { difference, fixture } from "./support/fixtures.ts"

describe("data order", () => {
  it("is a permutation for every size", () => {
    for (const size of [1, 2, 3, 5, 16, 17, 100, 1000, 4097]) {
      const image = new Set(Array.from({ length: size }, (_, i) => permute(i, size, 7)))
      expect(image.size).toBe(size)
      expect(Math.max(...image)).toBe(size - 1)
    }
  })

  it("puts every row about equally often everywhere", () => {
    const size = 10
    const keys = 4000
    const counts = new Float64Array(size * size)
    for (let key = 0; key < keys; key++) for (let i = 0; i < size; i++) counts[i * size + permute(i, size, key)]! += 1
    // χ² over 100 cells with 81 degrees of freedom: 150 is far in the tail.
    const expected = keys / size
    expect(counts.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0)).toBeLessThan(150)
  })

  it("shows every row once an epoch, in another order each epoch and for each seed", () => {
    const epoch = (seed: number, first: number) =>
      [0, 1, 2].flatMap((i) => rowsOfStep({ seed, size: 12, rowsPerStep: 4 }, first + i))
    const orders = [epoch(1, 1), epoch(1, 4), epoch(2, 1)]
    for (const rows of orders) expect([...rows].sort((a, b) => a - b)).toEqual([...Array(12).keys()])
    expect(new Set(orders.map(String)).size).toBe(3)
  })

  it("never has a row twice in a step, and drops what does not fill one", () => {
    for (let step = 1; step <= 40; step++) {
      expect(new Set(rowsOfStep({ seed: 3, size: 11, rowsPerStep: 4 }, step)).size).toBe(4)
    }
  })

  it("gives every step its own sampling key", () => {
    const seeds = new Set<number>()
    for (let seed = 0; seed < 20; seed++) for (let step = 1; step <= 500; step++) seeds.add(rolloutSeed(seed, step))
    expect(seeds.size).toBe(10_000)
  })
})

interface ScheduleCase {
  readonly lrSchedulerType: LrSchedulerType
  readonly maxSteps: number
  readonly warmupSteps: number
  readonly factors: ReadonlyArray<number>
}

describe("learning rate schedules", () => {
  for (const { factors, ...schedule } of fixture<ReadonlyArray<ScheduleCase>>("schedules")) {
    it(`${schedule.lrSchedulerType} with ${schedule.warmupSteps} warm-up steps is transformers' after warm-up`, () => {
      const ours = factors.map((_, i) => learningRateFactor({ ...schedule, warmupRatio: 0 }, i + 1))
      expect(difference(ours.slice(schedule.warmupSteps), factors.slice(schedule.warmupSteps))).toBeLessThanOrEqual(
        1e-12,
      )
    })
  }

  it("rise evenly during warm-up, and step 1 already learns", () => {
    const schedule = { lrSchedulerType: "constant", maxSteps: 30, warmupSteps: 0, warmupRatio: 0.1 } as const
    expect(
      difference(
        [1, 2, 3, 4, 5].map((step) => learningRateFactor(schedule, step)),
        [0.25, 0.5, 0.75, 1, 1],
      ),
    ).toBeLessThanOrEqual(1e-15)
  })
})
