import {
  type EngineError,
  type LabelledTrajectory,
  type LossProgram,
  type Metrics,
  type ModelEngine,
  Reference,
  type ScoredTrajectory,
  tokenSequence,
} from "@rlpt/core"
import { Effect, Option } from "effect"
import { TrainError } from "../errors.ts"
import type { TrainOptions } from "../options.ts"
import { inMicroBatches } from "./batches.ts"

/** A model that an algorithm trains, and how. */
export interface Learner {
  readonly engine: ModelEngine
  readonly loss: LossProgram
  /** At the top of the schedule. */
  readonly peakLearningRate: number
  /** What its loss, gradient norm and learning rate are called in the metrics. */
  readonly metricNames: { readonly loss: string; readonly gradNorm: string; readonly learningRate: string }
}

/** Trajectories with all that the losses read, and what the labelling has to report. */
export interface Labelled {
  readonly trajectories: ReadonlyArray<LabelledTrajectory>
  readonly metrics: Metrics
}

/**
 * What tells one RL algorithm from another. The loop of {@link train} does the rest: sampling, scoring, mini-batches,
 * aggregation, reports and checkpoints.
 */
export interface Algorithm {
  readonly learners: { readonly policy: Learner; readonly critic?: Learner }
  /** Whether the losses see this trajectory. One that they do not see has weight 0, but counts as a sequence. */
  readonly isTrained: (trajectory: ScoredTrajectory) => boolean
  /** Adds advantages, and what they are made of, to a step's trajectories (prompt by prompt, sample by sample). */
  readonly label: (trajectories: ReadonlyArray<ScoredTrajectory>) => Effect.Effect<Labelled, EngineError>
}

/** The learner of the policy, which all algorithms share. */
export const policyLearner = (engine: ModelEngine, loss: LossProgram, options: TrainOptions): Learner => ({
  engine,
  loss,
  peakLearningRate: options.learningRate,
  metricNames: { loss: "loss", gradNorm: "grad_norm", learningRate: "learning_rate" },
})

/** The loss sees a trajectory unless it was cut and `maskTruncatedCompletions` is on. */
export const isWhole =
  ({ maskTruncatedCompletions }: TrainOptions) =>
  ({ finishReason }: ScoredTrajectory): boolean =>
    !(maskTruncatedCompletions && finishReason === "length")

/**
 * A function that computes log-probabilities under the frozen reference, by trajectory; `undefined` when `beta` is 0
 * and no reference is needed.
 */
export const referenceLogProbs = Effect.fnUntraced(function* (options: TrainOptions) {
  if (options.beta === 0) return undefined
  const reference = Option.getOrUndefined(yield* Effect.serviceOption(Reference))
  if (reference === undefined) {
    return yield* new TrainError({
      message: `beta is ${options.beta}, but there is no reference model to compare with.`,
    })
  }
  return (trajectories: ReadonlyArray<ScoredTrajectory>) =>
    inMicroBatches(trajectories.map(tokenSequence), options.microBatchSize, (sequences) =>
      reference.logProbs(sequences, options.temperature),
    )
})
