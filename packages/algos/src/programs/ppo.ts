import { Critic, Policy, type ScoredTrajectory, tokenSequence } from "@rlpt/core"
import { Effect, Option } from "effect"
import { generalizedAdvantages } from "../advantage/gae.ts"
import { tokenRewards } from "../advantage/token-rewards.ts"
import { whiten } from "../advantage/whiten.ts"
import { TrainError } from "../errors.ts"
import { klEstimate } from "../kl.ts"
import { policyLoss } from "../loss/policy.ts"
import { valueLoss } from "../loss/value.ts"
import type { TrainOptions } from "../options.ts"
import { concat, mean, variance } from "../statistics.ts"
import { type Algorithm, isWhole, policyLearner, referenceLogProbs } from "./algorithm.ts"
import { inMicroBatches } from "./batches.ts"
import { finite } from "./metrics.ts"

/**
 * Proximal policy optimisation (Schulman et al. 2017, as RLHF uses it: Ouyang et al. 2022). The score comes with the
 * last token, KL to the reference is a reward of every token, and a critic of its own model and optimiser estimates
 * what is still to come. Needs `Critic`, and `Reference` when `beta` > 0.
 *
 * A completion whose reward is `null` has no return to learn from and is left out of both losses.
 */
export const ppo = Effect.fn("ppo")(function* (options: TrainOptions) {
  const { beta, gamma, lam } = options
  const critic = Option.getOrUndefined(yield* Effect.serviceOption(Critic))
  if (critic === undefined)
    return yield* new TrainError({ message: 'Algorithm "ppo" needs a critic, and none is provided.' })
  const refLogProbs = yield* referenceLogProbs(options)
  const loss = policyLoss({
    epsilon: options.epsilon,
    epsilonHigh: options.epsilonHigh ?? options.epsilon,
    delta: options.delta,
    entropyCoef: options.entropyCoef,
  })
  const whole = isWhole(options)
  const isTrained = (trajectory: ScoredTrajectory) => trajectory.reward !== null && whole(trajectory)

  return {
    learners: {
      policy: policyLearner(yield* Policy, loss, options),
      critic: {
        engine: critic,
        loss: valueLoss(options),
        peakLearningRate: options.criticLearningRate,
        metricNames: { loss: "value_loss", gradNorm: "critic_grad_norm", learningRate: "critic_learning_rate" },
      },
    },
    isTrained,
    label: Effect.fn("ppo.label")(function* (trajectories) {
      const values = yield* inMicroBatches(trajectories.map(tokenSequence), options.microBatchSize, critic.values)
      const references = refLogProbs && (yield* refLogProbs(trajectories))
      const divergences = references?.map((reference, i) =>
        Float64Array.from(reference, (refLogProb, t) =>
          klEstimate[options.klEstimator](trajectories[i]!.samplerLogProbs[t]!, refLogProb),
        ),
      )

      // Statistics are over the tokens that are trained; the others keep advantage 0.
      const trained = [...trajectories.keys()].filter((i) => isTrained(trajectories[i]!))
      const rewards = trained.map((i) => {
        const { completionTokens, finishReason, reward } = trajectories[i]!
        const score = reward! - (finishReason === "stop" ? 0 : options.missingEosPenalty)
        return tokenRewards(completionTokens.length, score, beta, divergences?.[i])
      })
      const estimates = (options.whitenRewards ? whiten(rewards, { shiftMean: false }) : rewards).map((reward, k) =>
        generalizedAdvantages(reward, values[trained[k]!]!, { gamma, lam }),
      )
      const advantages = whiten(estimates.map((estimate) => estimate.advantages))
      const place = new Map(trained.map((i, k) => [i, k]))

      const returns = concat(estimates.map((estimate) => estimate.returns))
      const estimated = concat(trained.map((i) => values[i]!))
      return {
        trajectories: trajectories.map((trajectory, i) => {
          const k = place.get(i)
          const zeros = new Float32Array(trajectory.completionTokens.length)
          return {
            ...trajectory,
            advantages: k === undefined ? zeros : Float32Array.from(advantages[k]!),
            values: values[i]!,
            returns: k === undefined ? zeros : Float32Array.from(estimates[k]!.returns),
            ...(references && { refLogProbs: references[i]! }),
          }
        }),
        metrics: finite({
          "values/mean": mean(estimated),
          "returns/mean": mean(returns),
          explained_variance: 1 - variance(returns.map((value, t) => value - estimated[t]!)) / variance(returns),
          ...(divergences && { kl: mean(concat(trained.map((i) => divergences[i]!))) }),
        }),
      }
    }),
  } satisfies Algorithm
})
