import type { LossMetric, LossProgram } from "@rlpt/core"
import { klTokens } from "../kl.ts"
import type { KlEstimator } from "../options.ts"

export interface PolicyLossOptions {
  /** Ratios count only down to 1 − epsilon where that would raise the objective. */
  readonly epsilon: number
  /** … and only up to 1 + epsilonHigh. */
  readonly epsilonHigh: number
  /** Upper bound of the unclipped ratio (dual clip), which is otherwise unbounded for negative advantages. */
  readonly delta?: number | undefined
  /** Weight of the entropy bonus. */
  readonly entropyCoef: number
  /** KL(π‖reference) added to the loss; absent when there is none or it is in the reward. */
  readonly kl?: { readonly beta: number; readonly estimator: KlEstimator } | undefined
}

/** How far the model is from the sampler; only meaningful while its weights are those that sampled. */
export const SAMPLING_DIFFERENCE = "sampling/sampling_logp_difference/max"

/**
 * The clipped surrogate of PPO (Schulman et al. 2017) per token, with what GRPO adds to it:
 * −min(min(r, δ)·A, clip(r, 1 − ε, 1 + ε_high)·A) + β·KL − c·s·H, r = exp(logProbs − oldLogProbs).
 *
 * Fields: `advantages`, `oldLogProbs` (the sampler's, which are exact), `refLogProbs` with a KL term, and with an
 * entropy bonus `entropyScale`, which undoes the aggregation's token weights so that the bonus is the mean over tokens
 * whatever the loss type, as in TRL.
 */
export const policyLoss = (options: PolicyLossOptions): LossProgram => {
  const { delta, entropyCoef, epsilon, epsilonHigh, kl } = options
  const fields = ["advantages", "oldLogProbs"]
  if (kl !== undefined) fields.push("refLogProbs")
  if (entropyCoef !== 0) fields.push("entropyScale")
  return {
    name: "policy",
    outputs: ["logProbs", "entropy"],
    fields,
    evaluate: ({ advantages, entropy, entropyScale, logProbs, oldLogProbs, refLogProbs }) => {
      const difference = logProbs!.sub(oldLogProbs!)
      const ratio = difference.exp()
      const bounded = delta === undefined ? ratio : ratio.minimum(delta)
      const clipped = ratio.clamp(1 - epsilon, 1 + epsilonHigh)
      let perToken = bounded.mul(advantages!).minimum(clipped.mul(advantages!)).neg()

      const low = ratio.less(1 - epsilon).mul(advantages!.less(0))
      const high = ratio.greater(1 + epsilonHigh).mul(advantages!.greater(0))
      const metrics: Record<string, LossMetric> = {
        entropy: { perToken: entropy!, reduce: "mean" },
        "clip_ratio/low_mean": { perToken: low, reduce: "mean" },
        "clip_ratio/high_mean": { perToken: high, reduce: "mean" },
        "clip_ratio/region_mean": { perToken: low.add(high), reduce: "mean" },
        [SAMPLING_DIFFERENCE]: { perToken: difference.abs(), reduce: "max" },
      }
      if (kl !== undefined) {
        const divergence = klTokens[kl.estimator](logProbs!, refLogProbs!)
        perToken = perToken.add(divergence.mul(kl.beta))
        metrics["kl"] = { perToken: divergence, reduce: "mean" }
      }
      if (entropyCoef !== 0) perToken = perToken.sub(entropy!.mul(entropyScale!).mul(entropyCoef))
      return { perToken, metrics }
    },
  }
}
