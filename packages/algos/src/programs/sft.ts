import { type LossBatch, Policy, type Split, Task, Tokenizer, type TokenSequence } from "@rlpt/core"
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
import { tokenize } from "./tokenize.ts"
import { countRefused, updateModel } from "./update.ts"

/**
 * Supervised fine-tuning: the policy learns to continue each row's prompt with its completion and then to end. Only
 * completion tokens are in the loss. Resumes, evaluates (`eval/loss`), tracks and saves as {@link runSteps} says.
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
  const { batchSize, maxGradNorm, maxLength, microBatchSize, seed } = options
  const { train } = yield* Task
  const policy = yield* Policy
  const step = state.step + 1
  const stopwatch = makeStopwatch()

  const rows = rowsOfStep({ seed, size: train.size, rowsPerStep: batchSize }, step)
  const sequences = yield* readSequences(train, rows, maxLength)
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

/** Mean negative log-likelihood (nats) of the completion tokens of the first rows of the eval split. */
const evalLoss = Effect.fn("evalLoss")(function* ({ evalSize, maxLength, microBatchSize }: SftOptions) {
  const policy = yield* Policy
  const split = yield* evalSplit
  const rows = Array.from({ length: Math.min(evalSize, split.size) }, (_, row) => row)
  const sequences = yield* readSequences(split, rows, maxLength)
  const logProbs = yield* inMicroBatches(sequences, microBatchSize, (part) => policy.logProbs(part, 1))
  return { "eval/loss": -mean(concat(logProbs)) }
})

/** Every completion token counts the same. */
const tokenMeanBatch = (sequences: ReadonlyArray<TokenSequence>): LossBatch => {
  const masks = sequences.map(({ promptLength, tokens }) => new Uint8Array(tokens.length - promptLength).fill(1))
  const counts = countBatch(masks)
  return {
    sequences,
    fields: {},
    weights: masks.map((mask) => tokenWeights("dapo", mask, counts, mask.length)),
    temperature: 1,
  }
}

interface SftSequence extends TokenSequence {
  /** Whether the row was longer than `maxLength`. */
  readonly isCut: boolean
}

/**
 * Rows as token ids: prompt, completion, end-of-text. The prompt is tokenised by itself, exactly as it is when the model
 * is sampled from. Rows longer than `maxLength` are cut at the end, and refused if that leaves nothing to learn.
 */
const readSequences = Effect.fnUntraced(function* (split: Split, rows: ReadonlyArray<number>, maxLength: number) {
  const task = yield* Task
  return yield* Effect.forEach(rows, (row) =>
    Effect.gen(function* () {
      const { completion, prompt } = yield* split.row(row)
      const fail = (problem: string) => new TrainError({ message: `Row ${row} of task "${task.name}" ${problem}.` })
      if (completion === undefined) return yield* fail("has no completion to learn from")
      const { endOfText } = yield* Tokenizer
      const encode = (text: string) => tokenize(text, `Row ${row} of task "${task.name}"`)
      const promptTokens = yield* encode(prompt)
      if (promptTokens.length === 0) return yield* fail("has an empty prompt")
      if (promptTokens.length >= maxLength) {
        return yield* fail(
          `has a prompt of ${promptTokens.length} tokens, which leaves nothing of maxLength ${maxLength}`,
        )
      }
      const completionTokens =
        continuation(promptTokens, yield* encode(prompt + completion)) ??
        (yield* encode(completion)).subarray((yield* encode("")).length)
      const last = completionTokens.at(-1)
      const end = last !== undefined && endOfText.includes(last) ? [] : endOfText.slice(0, 1)
      const tokens = Int32Array.from([...promptTokens, ...completionTokens, ...end])
      return {
        tokens: tokens.subarray(0, maxLength),
        promptLength: promptTokens.length,
        isCut: tokens.length > maxLength,
      } satisfies SftSequence
    }),
  )
})

/** What follows `prefix` in `tokens`; `undefined` where the text was cut differently across the boundary. */
const continuation = (prefix: Int32Array, tokens: Int32Array): Int32Array | undefined =>
  prefix.every((token, i) => tokens[i] === token) ? tokens.subarray(prefix.length) : undefined
