import { type Gpu, openDevice, type Tensor, valueAndGrad } from "@rlpt/tensor"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { countBatch, type LossType, policyLoss, tokenWeights, valueLoss } from "../src/index.ts"
import { concat } from "../src/statistics.ts"
import { difference, fixture } from "./support/fixtures.ts"

type Ragged = ReadonlyArray<ReadonlyArray<number>>

// The programs run on the GPU in float32; values here are of order 1.
const TOLERANCE = 1e-6

let gpu: Gpu
beforeAll(async () => {
  gpu = await openDevice()
})
afterAll(() => gpu.destroy())

const upload = (rows: Ragged | ReadonlyArray<Float32Array>): Tensor => gpu.tensor(Float32Array.from(concat(rows)))

describe("on the GPU", () => {
  it("the policy loss and its gradient are TRL's", async () => {
    const { cases, inputs } = fixture<{
      readonly inputs: Readonly<Record<"logProbs" | "oldLogProbs" | "refLogProbs" | "entropy", Ragged>> & {
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
      }>
    }>("trl-policy-loss")
    const masks = inputs.logProbs.map((row) => row.map(() => 1))
    const counts = countBatch(masks)
    for (const { beta, delta, loss, logProbsGradient, ...options } of cases) {
      const program = policyLoss({
        ...options,
        delta: delta ?? undefined,
        kl: beta > 0 ? { beta, estimator: "k3" } : undefined,
      })
      const weights = masks.map((mask) => tokenWeights(options.lossType, mask, counts, options.maxCompletionLength))
      const given = {
        oldLogProbs: upload(inputs.oldLogProbs),
        refLogProbs: upload(inputs.refLogProbs),
        entropy: upload(inputs.entropy),
        advantages: upload(inputs.advantages.map((advantage, i) => masks[i]!.map(() => advantage))),
        entropyScale: upload(weights.map((row) => row.map((weight) => 1 / (counts.tokens * weight)))),
      }
      const weight = upload(weights)
      const { grads, value } = valueAndGrad(
        (logProbs) => (program.evaluate({ ...given, logProbs }).perToken as Tensor).mul(weight).sum(),
        [upload(inputs.logProbs)],
      )
      expect(difference([await value.item()], [loss])).toBeLessThanOrEqual(TOLERANCE)
      expect(difference(await grads[0]!.data(), concat(logProbsGradient))).toBeLessThanOrEqual(TOLERANCE)
    }
  })

  it("the value loss and its gradient are verl's", async () => {
    const fixed = fixture<
      Readonly<Record<"values" | "oldValues" | "returns", Ragged>> & {
        readonly cases: ReadonlyArray<{
          readonly cliprangeValue: number
          readonly loss: number
          readonly gradient: Ragged
        }>
      }
    >("value-loss")
    for (const { cliprangeValue, gradient, loss } of fixed.cases) {
      const given = { oldValues: upload(fixed.oldValues), returns: upload(fixed.returns) }
      const { grads, value } = valueAndGrad(
        (values) => (valueLoss({ cliprangeValue }).evaluate({ ...given, values }).perToken as Tensor).mean(),
        [upload(fixed.values)],
      )
      expect(difference([await value.item()], [loss])).toBeLessThanOrEqual(TOLERANCE)
      expect(difference(await grads[0]!.data(), concat(gradient))).toBeLessThanOrEqual(TOLERANCE)
    }
  })

  it("a ratio of exactly 1 passes its gradient once, and metrics say so", async () => {
    const program = policyLoss({ epsilon: 0.2, epsilonHigh: 0.2, entropyCoef: 0 })
    const logProbs = [[-1.25, -0.5, -3]]
    const given = { oldLogProbs: upload(logProbs), advantages: upload([[0.5, -2, 0]]), entropy: upload([[1, 1, 1]]) }
    const { grads } = valueAndGrad(
      (current) => (program.evaluate({ ...given, logProbs: current }).perToken as Tensor).sum(),
      [upload(logProbs)],
    )
    expect(Array.from(await grads[0]!.data(), (x) => x + 0)).toEqual([-0.5, 2, 0])
    const { metrics } = program.evaluate({ ...given, logProbs: upload(logProbs) })
    for (const name of ["clip_ratio/region_mean", "sampling/sampling_logp_difference/max"]) {
      expect([...(await (metrics[name]!.perToken as Tensor).data())]).toEqual([0, 0, 0])
    }
  })
})
