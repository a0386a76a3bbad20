import {
  type LabelledTrajectory,
  type LossBatch,
  type LossProgram,
  type LossReport,
  type ModelEngine,
  type OptimizerReport,
  type OptimizerStep,
  tokenSequence,
} from "@rlpt/core"
import { Effect } from "effect"
import { type BatchCounts, countBatch, tokenWeights } from "../aggregation.ts"
import { TrainError } from "../errors.ts"
import type { TrainOptions } from "../options.ts"
import { mergeReports, splitBatch } from "./batches.ts"

/** Refused updates in a row after which a run is stopped. */
const MAX_REFUSED_UPDATES = 3

/** What one optimiser update did. */
export interface Update {
  readonly report: LossReport
  readonly optimizer: OptimizerReport
}

/** One optimiser update from `batch`, its gradient gathered over micro-batches. */
export const updateModel = Effect.fn("updateModel")(function* (
  engine: ModelEngine,
  loss: LossProgram,
  batch: LossBatch,
  microBatchSize: number,
  optimizerStep: OptimizerStep,
) {
  const reports = yield* Effect.forEach(splitBatch(batch, microBatchSize), (part) => engine.accumulate(part, loss))
  const optimizer = yield* engine.step(optimizerStep)
  return { report: mergeReports(reports), optimizer } satisfies Update
})

/**
 * Refused updates in a row after one more update; fails at the third. One bad batch is survivable, since the engine
 * left the weights alone; a row of them means that the weights or the loss are broken.
 */
export const countRefused = (refusedBefore: number, { applied, gradNorm }: OptimizerReport, step: number) => {
  const refused = applied ? 0 : refusedBefore + 1
  if (refused < MAX_REFUSED_UPDATES) return Effect.succeed(refused)
  return new TrainError({
    message:
      `Step ${step}: the gradient was not finite (norm ${gradNorm}) for ${refused} updates in a row; the weights are those ` +
      "of before. Lower the learning rate, and look for extreme rewards in the sample log.",
  })
}

/** The per-token data that a loss can ask for by name. */
const fieldsByName: Readonly<
  Record<
    string,
    (trajectory: LabelledTrajectory, weights: Float32Array, counts: BatchCounts) => Float32Array | undefined
  >
> = {
  advantages: ({ advantages }) => advantages,
  // The sampler's numbers are exact, so nothing has to be computed again.
  oldLogProbs: ({ samplerLogProbs }) => samplerLogProbs,
  refLogProbs: ({ refLogProbs }) => refLogProbs,
  oldValues: ({ values }) => values,
  returns: ({ returns }) => returns,
  entropyScale: (_, weights, { tokens }) => weights.map((weight) => 1 / (tokens * weight)),
}

/**
 * The batch that `loss` reads, from the trajectories of one optimiser update; `undefined` if none of their tokens is
 * trained. Trajectories that are not trained count in the aggregation and are otherwise left out.
 */
export const trajectoryBatch = (
  trajectories: ReadonlyArray<LabelledTrajectory>,
  isTrained: (trajectory: LabelledTrajectory) => boolean,
  loss: LossProgram,
  { lossType, maxCompletionLength, temperature }: TrainOptions,
): LossBatch | undefined => {
  const masks = trajectories.map((trajectory) =>
    new Uint8Array(trajectory.completionTokens.length).fill(isTrained(trajectory) ? 1 : 0),
  )
  const counts = countBatch(masks)
  if (counts.tokens === 0) return undefined
  const trained = trajectories.filter((trajectory) => isTrained(trajectory))
  const weights = trained.map(({ completionTokens }) =>
    tokenWeights(lossType, new Uint8Array(completionTokens.length).fill(1), counts, maxCompletionLength),
  )
  const field = (name: string) =>
    trained.map((trajectory, i) => {
      const values = fieldsByName[name]?.(trajectory, weights[i]!, counts)
      if (values === undefined) throw new Error(`loss "${loss.name}" reads ${name}, which no trajectory has`)
      return values
    })
  return {
    sequences: trained.map(tokenSequence),
    fields: Object.fromEntries(loss.fields.map((name) => [name, field(name)])),
    weights,
    temperature,
  }
}
