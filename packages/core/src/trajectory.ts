import type { ChatMessage } from "./chat.ts"

/** A row of a task, ready to be sampled from. */
export interface Prompt {
  /** Position of the row in its split: names the row in errors, samples and random-number keys. */
  readonly row: number
  /** As the model reads it: a conversation is written by its chat template. */
  readonly text: string
  /** The messages of a conversation; absent where the row's prompt is text. */
  readonly messages?: ReadonlyArray<ChatMessage>
  /** Token ids of `text`, special tokens included. */
  readonly tokens: Int32Array
  /** The row's other columns, handed to rewards unchanged. */
  readonly columns: Readonly<Record<string, unknown>>
}

export type FinishReason = "stop" | "length"

/**
 * One sampled completion. Made once by a rollout engine; later stages add fields to it
 * ({@link ScoredTrajectory}, {@link LabelledTrajectory}) and never change one.
 */
export interface Trajectory {
  readonly prompt: Prompt
  /** Index among the completions of the same prompt: 0 … numGenerations − 1. */
  readonly sample: number
  /** Sampled token ids, the stop token included when there is one. */
  readonly completionTokens: Int32Array
  /** `completionTokens` decoded, special tokens left out. */
  readonly completion: string
  /** log π(token) under the tempered, untruncated policy, one per completion token (nats). */
  readonly samplerLogProbs: Float32Array
  /** `stop`: ended by a stop token; `length`: cut at `maxCompletionLength`. */
  readonly finishReason: FinishReason
  /** Number of optimiser steps behind the weights that sampled it. */
  readonly policyVersion: number
}

/** A trajectory with what each reward said of it; `null` means "not applicable". */
export interface ScoredTrajectory extends Trajectory {
  /** Score by reward name, unweighted. */
  readonly rewards: Readonly<Record<string, number | null>>
  /** Weighted sum of the applicable rewards; `null` if none was applicable. */
  readonly reward: number | null
}

/** A scored trajectory with everything that a loss needs, one number per completion token. */
export interface LabelledTrajectory extends ScoredTrajectory {
  readonly advantages: Float32Array
  /** log-probabilities under the frozen reference; present when the algorithm uses a KL term. */
  readonly refLogProbs?: Float32Array
  /** The critic's values and the targets it is trained towards; present for PPO. */
  readonly values?: Float32Array
  readonly returns?: Float32Array
}

/** A prompt and a completion in one row of token ids, as a model engine reads them. */
export interface TokenSequence {
  /** Prompt then completion. */
  readonly tokens: Int32Array
  /** Tokens before the completion (≥ 1): everything from here on is scored. */
  readonly promptLength: number
}

/** Prompt and completion of `trajectory`, joined without ever being re-tokenised. */
export const tokenSequence = (trajectory: Trajectory): TokenSequence => {
  const { tokens } = trajectory.prompt
  const joined = new Int32Array(tokens.length + trajectory.completionTokens.length)
  joined.set(tokens)
  joined.set(trajectory.completionTokens, tokens.length)
  return { tokens: joined, promptLength: tokens.length }
}
