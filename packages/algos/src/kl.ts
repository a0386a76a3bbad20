import type { TokenTensor } from "@rlpt/core"
import type { KlEstimator } from "./options.ts"

/**
 * Estimators of KL(π‖ref) from one sampled token, with d = log ref − log π (Schulman, "Approximating KL divergence",
 * http://joschu.net/blog/kl-approx.html). In expectation over π, `k1` and `k3` are the divergence and `k2` is close to
 * it. Their gradients differ: as a loss on sampled tokens `k2` has the gradient of the divergence, `k3` that of the
 * reversed one, and `k1` none at all in expectation, which is why it belongs in the reward.
 */

/** The estimators on numbers (nats), for KL in the reward. */
export const klEstimate: Readonly<Record<KlEstimator, (logProb: number, refLogProb: number) => number>> = {
  k1: (logProb, refLogProb) => logProb - refLogProb,
  abs: (logProb, refLogProb) => Math.abs(logProb - refLogProb),
  k2: (logProb, refLogProb) => 0.5 * (refLogProb - logProb) ** 2,
  k3: (logProb, refLogProb) => Math.expm1(refLogProb - logProb) - (refLogProb - logProb),
}

/** The estimators per token, for KL in the loss; differentiable in `logProbs`. */
export const klTokens: Readonly<Record<KlEstimator, (logProbs: TokenTensor, refLogProbs: TokenTensor) => TokenTensor>> =
  {
    k1: (logProbs, refLogProbs) => logProbs.sub(refLogProbs),
    abs: (logProbs, refLogProbs) => logProbs.sub(refLogProbs).abs(),
    k2: (logProbs, refLogProbs) => refLogProbs.sub(logProbs).square().mul(0.5),
    k3: (logProbs, refLogProbs) => {
      const d = refLogProbs.sub(logProbs)
      return d.exp().sub(d).sub(1)
    },
  }
