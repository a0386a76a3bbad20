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
import { type Algorithm, isWhole, type Labelled, policyLearner, referenceLogProbs } from "./algorithm.ts"
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
  const critic = Option.getOrUndefined(yield* Effect.serviceOption(Critic))
  if (critic === undefined) {
    return yield* new TrainError({ message: 'Algorithm "ppo" needs a critic, and none is provided.' })
  }
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
      const estimated = trajectories.map((trajectory, i) => ({
        trajectory,
        values: values[i]!,
        ...(references && { refLogProbs: references[i]! }),
      }))
      return labelTokens(estimated, isTrained, options)
    }),
  } satisfies Algorithm
})

/** A trajectory with what the models say of it. */
interface Estimated {
  readonly trajectory: ScoredTrajectory
  readonly values: Float32Array
  readonly refLogProbs?: Float32Array
}

/** Rewards, advantages and returns per token. Statistics are over trained tokens; the others get advantage 0. */
const labelTokens = (
  all: ReadonlyArray<Estimated>,
  isTrained: (trajectory: ScoredTrajectory) => boolean,
  { beta, gamma, klEstimator, lam, missingEosPenalty, whitenRewards }: TrainOptions,
): Labelled => {
  const trained = all.filter(({ trajectory }) => isTrained(trajectory))
  const divergences = trained.map(
    ({ refLogProbs, trajectory }) =>
      refLogProbs &&
      Float64Array.from(refLogProbs, (ref, t) => klEstimate[klEstimator](trajectory.samplerLogProbs[t]!, ref)),
  )
  const rewards = trained.map(({ trajectory: { completionTokens, finishReason, reward } }, i) => {
    const score = reward! - (finishReason === "stop" ? 0 : missingEosPenalty)
    return tokenRewards(completionTokens.length, score, beta, divergences[i])
  })
  const estimates = (whitenRewards ? whiten(rewards, { shiftMean: false }) : rewards).map((reward, i) =>
    generalizedAdvantages(reward, trained[i]!.values, { gamma, lam }),
  )
  const advantages = whiten(estimates.map((estimate) => estimate.advantages))
  const labels = new Map(
    trained.map(({ trajectory }, i) => [
      trajectory,
      { advantages: Float32Array.from(advantages[i]!), returns: Float32Array.from(estimates[i]!.returns) },
    ]),
  )

  const values = concat(trained.map((estimate) => estimate.values))
  const returns = concat(estimates.map((estimate) => estimate.returns))
  return {
    trajectories: all.map(({ trajectory, ...estimate }) => {
      const zeros = new Float32Array(trajectory.completionTokens.length)
      return { ...trajectory, ...estimate, ...(labels.get(trajectory) ?? { advantages: zeros, returns: zeros }) }
    }),
    metrics: finite({
      "values/mean": mean(values),
      "returns/mean": mean(returns),
      explained_variance: 1 - variance(returns.map((value, t) => value - values[t]!)) / variance(returns),
      kl: mean(concat(divergences.filter((divergence) => divergence !== undefined))),
    }),
  }
}
