import type { LossType } from "./options.ts"

/** Which tokens of each sequence count: 1 or 0 per completion token. */
export type TokenMask = ArrayLike<number>

/** What one optimiser update is made of, however many micro-batches that takes. */
export interface BatchCounts {
  /** All sequences, also those without a counting token. */
  readonly sequences: number
  /** Tokens with mask 1. */
  readonly tokens: number
}

/** Tokens of one sequence that count. */
const activeTokens = (mask: TokenMask): number => {
  let count = 0
  for (let t = 0; t < mask.length; t++) count += mask[t]!
  return count
}

/** Counts of a whole optimiser batch. */
export const countBatch = (masks: ReadonlyArray<TokenMask>): BatchCounts => ({
  sequences: masks.length,
  tokens: masks.reduce((tokens, mask) => tokens + activeTokens(mask), 0),
})

/**
 * The weight that each token of a sequence has in the batch's loss Σ weight · loss, by aggregation (names of TRL's
 * `loss_type`, in brackets verl's `loss_agg_mode`):
 *
 * - `dapo` (token-mean): mean over all tokens of the batch
 * - `grpo` (seq-mean-token-mean): mean over sequences of the mean over their tokens
 * - `dr_grpo` (seq-mean-token-sum-norm): sum over tokens ÷ (sequences · maxCompletionLength)
 *
 * The counts are those of the whole optimiser batch, so a gradient does not depend on how the batch is split. An empty
 * batch or sequence has weights 0.
 */
export const tokenWeights = (
  lossType: LossType,
  mask: TokenMask,
  counts: BatchCounts,
  maxCompletionLength: number,
): Float32Array => {
  const normalizer = {
    dapo: () => counts.tokens,
    grpo: () => counts.sequences * activeTokens(mask),
    dr_grpo: () => counts.sequences * maxCompletionLength,
  }[lossType]()
  return Float32Array.from(mask, (active) => active / Math.max(1, normalizer))
}
