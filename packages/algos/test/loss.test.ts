import type { LossProgram } from "@rlpt/core"
import { describe, expect, it } from "vitest"
import {
  countBatch,
  klEstimate,
  type KlEstimator,
  klTokens,
  type LossType,
  pairLoss,
  policyLoss,
  sftLoss,
  tokenWeights,
  valueLoss,
} from "../src/index.ts"
import { concat } from "../src/statistics.ts"
import { CpuTensor } from "./support/cpu-tensor.ts"
import { difference, fixture } from "./support/fixtures.ts"

type Ragged = ReadonlyArray<ReadonlyArray<number>>

interface PolicyFixture {
  readonly inputs: {
    readonly logProbs: Ragged
    readonly oldLogProbs: Ragged
    readonly refLogProbs: Ragged
    readonly entropy: Ragged
    readonly advantages: ReadonlyArray<number>
  }
  readonly cases: ReadonlyArray<{
    readonly lossType: LossType
    readonly maxCompletionLength: number
    readonly epsilon: number
    readonly epsilonHigh: number
    readonly delta: number | null
    readonly beta: number
    readonly entropyCoef: number
    readonly loss: number
    readonly logProbsGradient: Ragged
    readonly entropyGradient?: Ragged
    readonly metrics?: Readonly<Record<string, number>>
  }>
}

// Weights are float32, so sums of them agree to about 1e-7; everything else is float64.
const TOLERANCE = 1e-7

const tensors = (parts: Readonly<Record<string, Ragged | ReadonlyArray<Float32Array>>>): Record<string, CpuTensor> =>
  Object.fromEntries(Object.entries(parts).map(([name, part]) => [name, new CpuTensor(concat(part))]))

const evaluate = (loss: LossProgram, inputs: Record<string, CpuTensor>, weights: Float64Array) => {
  const { metrics, perToken } = loss.evaluate(inputs)
  const values = (perToken as CpuTensor).values
  ;(perToken as CpuTensor).backward(weights)
  return { metrics, loss: values.reduce((sum, value, t) => sum + value * weights[t]!, 0) }
}

for (const library of ["trl", "verl"]) {
  describe(`the policy loss is ${library}'s`, () => {
    const { cases, inputs } = fixture<PolicyFixture>(`${library}-policy-loss`)
    const masks = inputs.logProbs.map((row) => row.map(() => 1))
    const counts = countBatch(masks)
    for (const expected of cases) {
      const { beta, delta, entropyCoef, epsilon, epsilonHigh, lossType, maxCompletionLength } = expected
      it(`${lossType}, delta ${delta}, epsilonHigh ${epsilonHigh}, beta ${beta}, entropyCoef ${entropyCoef}`, () => {
        const weights = masks.map((mask) => tokenWeights(lossType, mask, counts, maxCompletionLength))
        const loss = policyLoss({
          epsilon,
          epsilonHigh,
          delta: delta ?? undefined,
          entropyCoef,
          kl: beta > 0 ? { beta, estimator: "k3" } : undefined,
        })
        const given = tensors({
          ...inputs,
          advantages: inputs.advantages.map((advantage, i) => masks[i]!.map(() => advantage)),
          entropyScale: weights.map((row) => row.map((weight) => 1 / (counts.tokens * weight))),
        })
        const result = evaluate(loss, given, concat(weights))

        expect(Math.abs(result.loss - expected.loss)).toBeLessThan(TOLERANCE)
        expect(difference(given["logProbs"]!.gradient, concat(expected.logProbsGradient))).toBeLessThanOrEqual(
          TOLERANCE,
        )
        if (expected.entropyGradient) {
          expect(difference(given["entropy"]!.gradient, concat(expected.entropyGradient))).toBeLessThanOrEqual(
            TOLERANCE,
          )
        }
        for (const [name, value] of Object.entries(expected.metrics ?? {})) {
          const metric = result.metrics[name]!
          expect(metric.reduce).toBe("mean")
          const { values } = metric.perToken as CpuTensor
          expect(difference([values.reduce((sum, x) => sum + x, 0) / counts.tokens], [value])).toBeLessThanOrEqual(
            1e-12,
          )
        }
      })
    }
  })
}

describe("the policy loss", () => {
  const loss = policyLoss({ epsilon: 0.2, epsilonHigh: 0.2, entropyCoef: 0 })

  it("on the sampler's own weights is −advantage, with gradient −advantage", () => {
    const given = tensors({ logProbs: [[-1, -2]], oldLogProbs: [[-1, -2]], advantages: [[0.5, -3]], entropy: [[1, 1]] })
    const result = evaluate(loss, given, Float64Array.of(1, 1))
    expect(result.loss).toBe(2.5)
    expect([...given["logProbs"]!.gradient]).toEqual([-0.5, 3])
    const difference = result.metrics["sampling/sampling_logp_difference/max"]!
    expect(difference.reduce).toBe("max")
    expect([...(difference.perToken as CpuTensor).values]).toEqual([0, 0])
  })

  it("asks only for the data that its options read", () => {
    expect(loss.fields).toEqual(["advantages", "oldLogProbs"])
    const full = policyLoss({ epsilon: 0.2, epsilonHigh: 0.2, entropyCoef: 0.1, kl: { beta: 0.1, estimator: "k2" } })
    expect(full.fields).toEqual(["advantages", "oldLogProbs", "refLogProbs", "entropyScale"])
  })
})

describe("the value loss is verl's", () => {
  const { cases, ...inputs } = fixture<{
    readonly values: Ragged
    readonly oldValues: Ragged
    readonly returns: Ragged
    readonly cases: ReadonlyArray<{
      readonly cliprangeValue: number
      readonly loss: number
      readonly clipFraction: number
      readonly gradient: Ragged
    }>
  }>("value-loss")
  for (const expected of cases) {
    it(`cliprangeValue ${expected.cliprangeValue}`, () => {
      const given = tensors(inputs)
      const tokens = given["values"]!.values.length
      const result = evaluate(valueLoss(expected), given, new Float64Array(tokens).fill(1 / tokens))
      expect(difference([result.loss], [expected.loss])).toBeLessThanOrEqual(1e-12)
      expect(difference(given["values"]!.gradient, concat(expected.gradient))).toBeLessThanOrEqual(1e-12)
      const clipped = (result.metrics["value_clip_ratio"]!.perToken as CpuTensor).values
      // verl keeps its mask in float32 here.
      expect(
        difference([clipped.reduce((sum, x) => sum + x, 0) / tokens], [expected.clipFraction]),
      ).toBeLessThanOrEqual(1e-6)
    })
  }
})

describe("KL estimators are verl's", () => {
  const { estimators, logProbs, refLogProbs } = fixture<{
    readonly logProbs: ReadonlyArray<number>
    readonly refLogProbs: ReadonlyArray<number>
    readonly estimators: Readonly<
      Record<KlEstimator, { readonly estimate: ReadonlyArray<number>; readonly gradient: ReadonlyArray<number> }>
    >
  }>("kl")
  for (const name of ["k1", "k2", "k3", "abs"] as const) {
    it(`${name}, as number and per token`, () => {
      const { estimate, gradient } = estimators[name]
      const numbers = logProbs.map((logProb, i) => klEstimate[name](logProb, refLogProbs[i]!))
      expect(difference(numbers, estimate)).toBeLessThanOrEqual(1e-12)
      const current = new CpuTensor(logProbs)
      const tokens = klTokens[name](current, new CpuTensor(refLogProbs)) as CpuTensor
      expect(difference(tokens.values, estimate)).toBeLessThanOrEqual(1e-12)
      tokens.backward(logProbs.map(() => 1))
      expect(difference(current.gradient, gradient)).toBeLessThanOrEqual(1e-12)
    })
  }
})

describe("the SFT loss", () => {
  it("is the negative log-likelihood", () => {
    const given = tensors({ logProbs: [[-0.5, -2]] })
    expect(evaluate(sftLoss, given, Float64Array.of(0.5, 0.5)).loss).toBe(1.25)
    expect([...given["logProbs"]!.gradient]).toEqual([-0.5, -0.5])
  })
})

interface RewardModelFixture {
  readonly chosen: ReadonlyArray<number>
  readonly rejected: ReadonlyArray<number>
  readonly margin: ReadonlyArray<number>
  readonly coefficient: number
  readonly loss: number
  readonly chosenGradient: ReadonlyArray<number>
  readonly rejectedGradient: ReadonlyArray<number>
}

describe("the loss of pairs", () => {
  it("is that of TRL's RewardTrainer, and so is its gradient", () => {
    for (const expected of fixture<ReadonlyArray<RewardModelFixture>>("reward-model")) {
      const pairs = expected.chosen.map((chosen, i) => {
        return { chosen, rejected: expected.rejected[i]!, margin: expected.margin[i]! }
      })
      const { gradients, loss } = pairLoss(pairs, expected.coefficient)
      expect(Math.abs(loss - expected.loss)).toBeLessThanOrEqual(1e-12 * Math.abs(expected.loss))
      for (const [i, { chosen, rejected }] of gradients.entries()) {
        expect(chosen).toBeCloseTo(expected.chosenGradient[i]!, 12)
        expect(rejected).toBeCloseTo(expected.rejectedGradient[i]!, 12)
      }
    }
  })

  it("does not overflow", () => {
    const { gradients, loss } = pairLoss([{ chosen: -1e4, rejected: 1e4, margin: 0 }], 0)
    expect([loss, gradients]).toEqual([2e4, [{ chosen: -1, rejected: 1 }]])
  })
})
