import { Policy } from "@rlpt/core"
import { Effect } from "effect"
import { groupAdvantages } from "../advantage/group.ts"
import { policyLoss } from "../loss/policy.ts"
import type { TrainOptions } from "../options.ts"
import { type Algorithm, isWhole, policyLearner, referenceLogProbs } from "./algorithm.ts"

/**
 * Group relative policy optimisation (Shao et al. 2024, arXiv:2402.03300): the other completions of a prompt are the
 * baseline, so there is no critic; KL to the reference is part of the loss. Needs `Reference` when `beta` > 0.
 */
export const grpo = Effect.fn("grpo")(function* (options: TrainOptions) {
  const refLogProbs = yield* referenceLogProbs(options)
  const loss = policyLoss({
    epsilon: options.epsilon,
    epsilonHigh: options.epsilonHigh ?? options.epsilon,
    delta: options.delta,
    entropyCoef: options.entropyCoef,
    kl: options.beta > 0 ? { beta: options.beta, estimator: options.klEstimator } : undefined,
  })
  return {
    learners: { policy: policyLearner(yield* Policy, loss, options) },
    isTrained: isWhole(options),
    label: Effect.fn("grpo.label")(function* (trajectories) {
      const references = refLogProbs && (yield* refLogProbs(trajectories))
      const { advantages, zeroStdFraction } = groupAdvantages(
        trajectories.map(({ reward }) => reward),
        options.numGenerations,
        options.scaleRewards,
      )
      return {
        trajectories: trajectories.map((trajectory, i) => ({
          ...trajectory,
          advantages: new Float32Array(trajectory.completionTokens.length).fill(advantages[i]!),
          ...(references && { refLogProbs: references[i]! }),
        })),
        metrics: { frac_reward_zero_std: zeroStdFraction },
      }
    }),
  } satisfies Algorithm
})
