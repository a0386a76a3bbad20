import type { TokenSequence } from "./trajectory.ts"

/**
 * The operations a loss may use on per-token tensors. `Tensor` of `@rlpt/tensor` has them all; naming them here
 * keeps the contract free of any tensor library.
 */
export interface TokenTensor {
  add(other: TokenTensor | number): TokenTensor
  sub(other: TokenTensor | number): TokenTensor
  mul(other: TokenTensor | number): TokenTensor
  div(other: TokenTensor | number): TokenTensor
  minimum(other: TokenTensor | number): TokenTensor
  maximum(other: TokenTensor | number): TokenTensor
  clamp(low: number, high: number): TokenTensor
  neg(): TokenTensor
  exp(): TokenTensor
  log(): TokenTensor
  abs(): TokenTensor
  square(): TokenTensor
  sigmoid(): TokenTensor
  stopGradient(): TokenTensor
  /** 1 where the comparison holds and 0 elsewhere; no gradient. */
  greater(other: TokenTensor | number): TokenTensor
  less(other: TokenTensor | number): TokenTensor
}

/** How a per-token metric becomes one number over all scored tokens of a batch. */
export type Reduction = "mean" | "min" | "max"

export interface LossMetric {
  readonly perToken: TokenTensor
  readonly reduce: Reduction
}

export interface LossOutput {
  /** One loss per token. The engine adds them up with the batch's {@link LossBatch.weights}. */
  readonly perToken: TokenTensor
  readonly metrics: Readonly<Record<string, LossMetric>>
}

/** What the model computes for each completion token, with gradients. */
export type ModelOutput = "logProbs" | "entropy" | "values"

/**
 * A loss, written once as a program over per-token tensors and run inside the backward pass of whichever engine
 * trains the model. Build a program once and reuse it: engines compile it on first sight of the object.
 */
export interface LossProgram {
  readonly name: string
  /** Which model outputs `evaluate` reads. Asking for `entropy` costs one more pass over the vocabulary. */
  readonly outputs: ReadonlyArray<ModelOutput>
  /** Names of the per-token data that `evaluate` reads, such as `advantages` or `oldLogProbs`. */
  readonly fields: ReadonlyArray<string>
  readonly evaluate: (tensors: Readonly<Record<string, TokenTensor>>) => LossOutput
}

/** Sequences of one gradient contribution, and the data its loss reads. */
export interface LossBatch {
  readonly sequences: ReadonlyArray<TokenSequence>
  /** By field name, then by sequence: one number per completion token. */
  readonly fields: Readonly<Record<string, ReadonlyArray<Float32Array>>>
  /**
   * Weight of each token in the loss. Aggregation (token mean, sequence mean, …) is nothing but a choice of weights
   * computed from the counts of the whole optimiser batch, which is why splitting a batch never changes a gradient.
   * A weight of zero also leaves the token out of the metrics.
   */
  readonly weights: ReadonlyArray<Float32Array>
  /** Divides the logits before log-softmax, as at sampling. */
  readonly temperature: number
}

/** Sums over tokens, so that reports of several batches can be added up exactly once at the end. */
export interface LossReport {
  /** Σ weight · loss. */
  readonly loss: number
  /** Tokens with a non-zero weight. */
  readonly tokens: number
  /** Value over the tokens of this batch. */
  readonly metrics: Readonly<Record<string, { readonly value: number; readonly reduce: Reduction }>>
}
