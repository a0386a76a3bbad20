import { type LossBatch, Policy, type Split, Task, type TokenSequence } from "@rlpt/core"
import { Effect } from "effect"
import { countBatch, tokenWeights } from "../aggregation.ts"
import { TrainError } from "../errors.ts"
import { sftLoss } from "../loss/sft.ts"
import type { SftOptions } from "../options.ts"
import { rowsOfStep } from "../order.ts"
import { learningRateFactor } from "../schedule.ts"
import { concat, mean } from "../statistics.ts"
import { inMicroBatches } from "./batches.ts"
import type { TrainerState } from "./checkpoint.ts"
import { evalSplit } from "./evaluate.ts"
import { runSteps } from "./loop.ts"
import { finite } from "./metrics.ts"
import { makeStopwatch } from "./stopwatch.ts"
import { encodeExample } from "./tokenize.ts"
import { countRefused, updateModel } from "./update.ts"

/**
 * Supervised fine-tuning: the policy learns to continue each row's prompt with its completion and then to end. Only
 * completion tokens are in the loss; of a conversation only what the assistant says (TRL's `assistant_only_loss`), each
 * time with the token that ends its turn. Resumes, evaluates (`eval/loss`), tracks and saves as {@link runSteps} says.
 */
export const sft = Effect.fn("sft")(function* (options: SftOptions) {
  const policy = yield* Policy
  const task = yield* Task
  if (task.train.size < options.batchSize) {
    return yield* new TrainError({
      message: `Task "${task.name}" has ${task.train.size} rows to train on, fewer than batchSize ${options.batchSize}.`,
    })
  }
  if (options.evalSteps > 0) yield* evalSplit
  return yield* runSteps(options, {
    models: { policy },
    start: () => Effect.void,
    step: (state) => sftStep(options, state),
    evaluate: evalLoss(options),
  })
})

const sftStep = Effect.fn("sftStep")(function* (options: SftOptions, state: TrainerState) {
  const { batchSize, maxGradNorm, microBatchSize, seed } = options
  const { train } = yield* Task
  const policy = yield* Policy
  const step = state.step + 1
  const stopwatch = makeStopwatch()

  const rows = rowsOfStep({ seed, size: train.size, rowsPerStep: batchSize }, step)
  const sequences = yield* readSequences(train, rows, options)
  const learningRate = learningRateFactor(options, step) * options.learningRate
  const { optimizer, report } = yield* stopwatch.time(
    "update_time",
    updateModel(policy, sftLoss, tokenMeanBatch(sequences), microBatchSize, { learningRate, maxGradNorm }),
  )
  const refusedUpdates = yield* countRefused(state.refusedUpdates, optimizer, step)

  const tokens = sequences.reduce((sum, sequence) => sum + sequence.tokens.length, 0)
  const numTokens = state.numTokens + tokens
  return {
    state: { step, policyVersion: state.policyVersion + Number(optimizer.applied), numTokens, refusedUpdates },
    metrics: finite({
      loss: report.loss,
      grad_norm: optimizer.gradNorm,
      learning_rate: learningRate,
      skipped_updates: Number(!optimizer.applied),
      num_tokens: numTokens,
      "completions/clipped_ratio": mean(sequences.map(({ isCut }) => Number(isCut))),
    }),
    timings: stopwatch.timings(tokens),
  }
})

/** Mean negative log-likelihood (nats) of the learnt tokens of the first rows of the eval split. */
const evalLoss = Effect.fn("evalLoss")(function* (options: SftOptions) {
  const { evalSize, microBatchSize } = options
  const policy = yield* Policy
  const split = yield* evalSplit
  const rows = Array.from({ length: Math.min(evalSize, split.size) }, (_, row) => row)
  const sequences = yield* readSequences(split, rows, options)
  const logProbs = yield* inMicroBatches(sequences, microBatchSize, (part) => policy.logProbs(part, 1))
  const learnt = logProbs.map((values, i) => values.filter((_, t) => sequences[i]!.mask[t] === 1))
  return { "eval/loss": -mean(concat(learnt)) }
})

/** Every token that is learnt counts the same. */
const tokenMeanBatch = (sequences: ReadonlyArray<SftSequence>): LossBatch => {
  const masks = sequences.map(({ mask }) => mask)
  const counts = countBatch(masks)
  return {
    sequences,
    fields: {},
    weights: masks.map((mask) => tokenWeights("dapo", mask, counts, mask.length)),
    temperature: 1,
  }
}

interface SftSequence extends TokenSequence {
  /** 1 for each token from `promptLength` on that is learnt, the first and the last for certain. */
  readonly mask: Uint8Array
  /** Whether the row was longer than `maxLength`. */
  readonly isCut: boolean
}

/**
 * Rows as token ids, with which of them are learnt. Rows longer than `maxLength` are cut at the end, and refused if that
 * leaves nothing to learn.
 */
const readSequences = Effect.fnUntraced(function* (split: Split, rows: ReadonlyArray<number>, options: SftOptions) {
  const task = yield* Task
  const { maxLength } = options
  return yield* Effect.forEach(rows, (number) =>
    Effect.gen(function* () {
      const row = yield* split.row(number)
      const where = `Row ${number} of task "${task.name}"`
      const fail = (problem: string) => new TrainError({ message: `${where} ${problem}.` })
      if (row.completion === undefined) return yield* fail("has no completion to learn from")
      const { mask, tokens } = yield* encodeExample(row, row.completion, options, where)
      const kept = mask.subarray(0, maxLength)
      const begin = mask.indexOf(1)
      if (begin < 0) return yield* fail("has no answer of the assistant to learn from")
      // Nothing predicts the first token.
      if (begin === 0) return yield* fail("has an empty prompt")
      if (begin >= maxLength) {
        return yield* fail(`has a prompt of ${begin} tokens, which leaves nothing of maxLength ${maxLength}`)
      }
      const end = kept.lastIndexOf(1) + 1
      return {
        tokens: tokens.subarray(0, end),
        promptLength: begin,
        mask: kept.subarray(begin, end),
        isCut: tokens.length > maxLength,
      } satisfies SftSequence
    }),
  )
})
