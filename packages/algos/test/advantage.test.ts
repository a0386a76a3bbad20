import { describe, expect, it } from "vitest"
import {
  generalizedAdvantages,
  groupAdvantages,
  klEstimate,
  type KlEstimator,
  type ScaleRewards,
  tokenRewards,
  whiten,
} from "../src/index.ts"
import { difference, fixture } from "./support/fixtures.ts"

interface GroupCase {
  readonly name: string
  readonly scale: ScaleRewards
  readonly groupSize: number
  readonly rewards: ReadonlyArray<number | null>
  readonly advantages: ReadonlyArray<number>
}

describe("group advantages", () => {
  for (const { advantages, groupSize, name, rewards, scale } of fixture<ReadonlyArray<GroupCase>>("grpo-advantages")) {
    it(`are TRL's (${name}, scaled by ${scale})`, () => {
      expect(difference(groupAdvantages(rewards, groupSize, scale).advantages, advantages)).toBeLessThanOrEqual(1e-12)
    })
  }

  it("are exactly 0 in a group without variance, whatever the mean rounds to", () => {
    for (const scale of ["group", "batch", "none"] as const) {
      const { advantages, zeroStdFraction } = groupAdvantages([0.1, 0.1, 0.1, 1, 0, 3], 3, scale)
      expect(Array.from(advantages.subarray(0, 3))).toEqual([0, 0, 0])
      expect(zeroStdFraction).toBe(0.5)
    }
  })

  it("ignore rewards that are null", () => {
    const { advantages } = groupAdvantages([1, null, 3, null], 4, "none")
    expect([...advantages]).toEqual([-1, 0, 1, 0])
    expect([...groupAdvantages([null, null, 5, null], 2, "group").advantages]).toEqual([0, 0, 0, 0])
  })
})

interface GaeCase {
  readonly gamma: number
  readonly lam: number
  readonly rewards: ReadonlyArray<ReadonlyArray<number>>
  readonly values: ReadonlyArray<ReadonlyArray<number>>
  readonly whitened: ReadonlyArray<ReadonlyArray<number>>
  readonly returns: ReadonlyArray<ReadonlyArray<number>>
}

describe("generalised advantages", () => {
  for (const { gamma, lam, returns, rewards, values, whitened } of fixture<ReadonlyArray<GaeCase>>("gae")) {
    it(`and their whitening are verl's (gamma ${gamma}, lam ${lam})`, () => {
      const estimates = rewards.map((reward, i) => generalizedAdvantages(reward, values[i]!, { gamma, lam }))
      estimates.forEach((estimate, i) => expect(difference(estimate.returns, returns[i]!)).toBeLessThanOrEqual(1e-12))
      // verl adds 1e-8 to the number of tokens wherever it divides by it.
      whiten(estimates.map(({ advantages }) => advantages)).forEach((row, i) =>
        expect(difference(row, whitened[i]!)).toBeLessThanOrEqual(1e-8),
      )
    })
  }

  it("with lam 1 are returns less values", () => {
    const { advantages, returns } = generalizedAdvantages([0, 0, 2], [0.5, 1, 1.5], { gamma: 1, lam: 1 })
    expect(difference(returns, [2, 2, 2])).toBeLessThanOrEqual(1e-15)
    expect(difference(advantages, [1.5, 1, 0.5])).toBeLessThanOrEqual(1e-15)
  })

  it("of nothing are nothing", () => {
    expect(generalizedAdvantages([], [], { gamma: 1, lam: 1 }).returns.length).toBe(0)
  })
})

interface PpoCase {
  readonly klEstimator: KlEstimator
  readonly whitenRewards: boolean
  readonly beta: number
  readonly gamma: number
  readonly lam: number
  readonly logProbs: ReadonlyArray<ReadonlyArray<number>>
  readonly refLogProbs: ReadonlyArray<ReadonlyArray<number>>
  readonly values: ReadonlyArray<ReadonlyArray<number>>
  readonly scores: ReadonlyArray<number>
  readonly rewards: ReadonlyArray<ReadonlyArray<number>>
  readonly advantages: ReadonlyArray<ReadonlyArray<number>>
  readonly returns: ReadonlyArray<ReadonlyArray<number>>
}

describe("PPO's rewards and advantages", () => {
  for (const fixed of fixture<ReadonlyArray<PpoCase>>("ppo-labels")) {
    it(`are TRL's (${fixed.klEstimator}${fixed.whitenRewards ? ", whitened rewards" : ""})`, () => {
      const raw = fixed.scores.map((score, i) => {
        const kl = fixed.logProbs[i]!.map((logProb, t) =>
          klEstimate[fixed.klEstimator](logProb, fixed.refLogProbs[i]![t]!),
        )
        return tokenRewards(kl.length, score, fixed.beta, kl)
      })
      const rewards = fixed.whitenRewards ? whiten(raw, { shiftMean: false }) : raw
      rewards.forEach((row, i) => expect(difference(row, fixed.rewards[i]!)).toBeLessThanOrEqual(1e-12))
      const estimates = rewards.map((row, i) => generalizedAdvantages(row, fixed.values[i]!, fixed))
      estimates.forEach(({ returns }, i) => expect(difference(returns, fixed.returns[i]!)).toBeLessThanOrEqual(1e-12))
      whiten(estimates.map(({ advantages }) => advantages)).forEach((row, i) =>
        expect(difference(row, fixed.advantages[i]!)).toBeLessThanOrEqual(1e-12),
      )
    })
  }

  it("give the score to the last token, and without a reference nothing else", () => {
    expect([...tokenRewards(3, 2.5, 0.1, undefined)]).toEqual([0, 0, 2.5])
  })
})

describe("whitening", () => {
  it("only shifts a single number, which has no variance", () => {
    expect(whiten([Float64Array.of(3)]).map((row) => [...row])).toEqual([[0]])
  })
})
