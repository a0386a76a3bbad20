import { type Content, Policy, type Split, Task, type TaskRow, type TokenSequence } from "@rlpt/core"
import { Effect } from "effect"
import { TrainError } from "../errors.ts"
import { type Pair, pairLoss, rewardSlopes } from "../loss/reward-model.ts"
import type { RewardModelOptions } from "../options.ts"
import { rowsOfStep } from "../order.ts"
import { learningRateFactor } from "../schedule.ts"
import { mean } from "../statistics.ts"
import { inMicroBatches } from "./batches.ts"
import type { TrainerState } from "./checkpoint.ts"
import { evalSplit } from "./evaluate.ts"
import { runSteps } from "./loop.ts"
import { finite } from "./metrics.ts"
import { makeStopwatch } from "./stopwatch.ts"
import { encodeExample } from "./tokenize.ts"
import { countRefused, updateModel } from "./update.ts"

/** How a reward model is trained. */
export interface RewardModelTraining extends RewardModelOptions {
  /** The model's `pad_token_id`: transformers asks for the reward at the last token that is another. */
  readonly padToken?: number | undefined
}

/**
 * Trains a reward model: of each row's two completions, the chosen one is to be worth more than the rejected one, by the
 * row's `margin` if it has one. `Policy` is a model with a reward head; the reward of a text is that of its last token,
 * tokens that pad left out. Metrics are those of TRL's RewardTrainer. Resumes, evaluates, tracks and saves as {@link runSteps} says.
 */
export const rewardModel = Effect.fn("rewardModel")(function* (options: RewardModelTraining) {
  const model = yield* Policy
  const task = yield* Task
  if (task.train.size < options.batchSize) {
    return yield* new TrainError({
      message: `Task "${task.name}" has ${task.train.size} rows to train on, fewer than batchSize ${options.batchSize}.`,
    })
  }
  if (options.evalSteps > 0) yield* evalSplit
  return yield* runSteps(options, {
    models: { policy: model },
    start: () => Effect.void,
    step: (state) => step(options, state),
    evaluate: evaluate(options),
  })
})

const step = Effect.fn("rewardStep")(function* (options: RewardModelTraining, state: TrainerState) {
  const { batchSize, centerRewardsCoefficient, maxGradNorm, microBatchSize, seed } = options
  const { train } = yield* Task
  const model = yield* Policy
  const number = state.step + 1
  const stopwatch = makeStopwatch()

  const rows = rowsOfStep({ seed, size: train.size, rowsPerStep: batchSize }, number)
  const encoded = yield* readPairs(train, rows, options)
  const sequences = encoded.flatMap(({ chosen, rejected }) => [chosen, rejected])
  const pairs = yield* stopwatch.time("reward_time", judge(encoded, options))
  const { gradients, loss } = pairLoss(pairs, centerRewardsCoefficient)
  const slopes = gradients.flatMap(({ chosen, rejected }) => [Float32Array.of(chosen), Float32Array.of(rejected)])
  const batch = { sequences, fields: { slopes }, weights: sequences.map(() => Float32Array.of(1)), temperature: 1 }
  const learningRate = learningRateFactor(options, number) * options.learningRate
  const { optimizer } = yield* stopwatch.time(
    "update_time",
    updateModel(model, rewardSlopes, batch, microBatchSize, { learningRate, maxGradNorm }),
  )
  const refusedUpdates = yield* countRefused(state.refusedUpdates, optimizer, number)

  const tokens = sequences.reduce((sum, { promptLength }) => sum + promptLength, 0)
  const numTokens = state.numTokens + tokens
  return {
    state: { step: number, policyVersion: state.policyVersion + Number(optimizer.applied), numTokens, refusedUpdates },
    metrics: finite({
      loss,
      grad_norm: optimizer.gradNorm,
      learning_rate: learningRate,
      skipped_updates: Number(!optimizer.applied),
      num_tokens: numTokens,
      ...pairMetrics(pairs),
    }),
    timings: stopwatch.timings(tokens),
  }
})

/** The same measures on the first rows of the eval split. */
const evaluate = Effect.fn("rewardEvaluation")(function* (options: RewardModelTraining) {
  const split = yield* evalSplit
  const rows = Array.from({ length: Math.min(options.evalSize, split.size) }, (_, row) => row)
  const pairs = yield* judge(yield* readPairs(split, rows, options), options)
  const { loss } = pairLoss(pairs, options.centerRewardsCoefficient)
  const metrics = Object.entries({ loss, ...pairMetrics(pairs) })
  return finite(Object.fromEntries(metrics.map(([name, value]) => [`eval/${name}`, value])))
})

const pairMetrics = (pairs: ReadonlyArray<Pair>) => {
  const rewards = pairs.flatMap(({ chosen, rejected }) => [chosen, rejected])
  return {
    accuracy: mean(pairs.map(({ chosen, rejected }) => Number(chosen > rejected))),
    margin: mean(pairs.map(({ chosen, rejected }) => chosen - rejected)),
    min_reward: Math.min(...rewards),
    mean_reward: mean(rewards),
    max_reward: Math.max(...rewards),
  }
}

interface EncodedPair {
  readonly chosen: TokenSequence
  readonly rejected: TokenSequence
  readonly margin: number
}

/** What the model makes of the pairs as it is. */
const judge = Effect.fnUntraced(function* (pairs: ReadonlyArray<EncodedPair>, { microBatchSize }: RewardModelOptions) {
  const model = yield* Policy
  const sequences = pairs.flatMap(({ chosen, rejected }) => [chosen, rejected])
  const rewards = yield* inMicroBatches(sequences, microBatchSize, model.values)
  return pairs.map(({ margin }, i): Pair => {
    return { chosen: rewards[2 * i]![0]!, rejected: rewards[2 * i + 1]![0]!, margin }
  })
})

const readPairs = Effect.fnUntraced(function* (
  split: Split,
  rows: ReadonlyArray<number>,
  options: RewardModelTraining,
) {
  const task = yield* Task
  return yield* Effect.forEach(rows, (number) =>
    Effect.gen(function* () {
      const row = yield* split.row(number)
      const where = `Row ${number} of task "${task.name}"`
      const { margin = 0 } = row.columns
      if (typeof margin !== "number" || !Number.isFinite(margin)) {
        return yield* new TrainError({
          message: `${where}: its margin must be a number, not ${JSON.stringify(margin)}.`,
        })
      }
      const read = (side: "chosen" | "rejected") => readText(row, side, options, where)
      return { chosen: yield* read("chosen"), rejected: yield* read("rejected"), margin } satisfies EncodedPair
    }),
  )
})

/** A whole text. The token behind it is never read: it stands for the place at which the reward is asked for. */
const readText = Effect.fnUntraced(function* (
  row: TaskRow,
  side: "chosen" | "rejected",
  options: RewardModelTraining,
  where: string,
) {
  const completion: Content | undefined = row[side]
  if (completion === undefined) return yield* new TrainError({ message: `${where} has no ${side} completion.` })
  const encoded = yield* encodeExample(row, completion, options, where)
  const { padToken } = options
  const tokens = encoded.tokens.subarray(0, encoded.tokens.findLastIndex((token) => token !== padToken) + 1)
  if (tokens.length === 0) return yield* new TrainError({ message: `${where}: its ${side} text is empty.` })
  if (tokens.length <= options.maxLength) return textSequence(tokens)
  return yield* new TrainError({
    message: `${where}: its ${side} text has ${tokens.length} tokens, more than maxLength ${options.maxLength}. Remove the row or raise maxLength.`,
  })
})

/** A text as the sequence whose one value is the reward of the whole. */
const textSequence = (tokens: Int32Array): TokenSequence => {
  const sequence = new Int32Array(tokens.length + 1)
  sequence.set(tokens)
  return { tokens: sequence, promptLength: tokens.length }
}
