import type { Activation } from "@rlpt/tensor"
import type { RopeConfig } from "./rope.ts"

/** Sizes of a decoder, and what its weights are drawn from. */
export interface Sizes {
  readonly vocabSize: number
  readonly hiddenSize: number
  readonly intermediateSize: number
  readonly numHiddenLayers: number
  readonly numAttentionHeads: number
  readonly numKeyValueHeads: number
  readonly headDim: number
  readonly maxPositionEmbeddings: number
  readonly initializerRange: number
  /** Longest sequence that the decoder is prepared for; `maxPositionEmbeddings` unless one asks for another. */
  readonly contextLength: number
}

export type SizeName = Exclude<keyof Sizes, "contextLength">

/** What a decoder does with its sizes: all in which families differ. */
export interface Structure {
  /** Factor on token embeddings. */
  readonly embeddingScale: number
  /** Positions are embedded like tokens, and added. */
  readonly learnedPositions: boolean
  readonly norm: NormConfig
  /** The outputs of attention and of the feed-forward part are normed too, before they join the residual stream. */
  readonly postNorms: boolean
  readonly attention: AttentionConfig
  readonly feedForward: FeedForwardConfig
  /** Rotary embeddings by name. */
  readonly ropes: Readonly<Record<string, RopeConfig>>
  /** One per layer. */
  readonly layers: ReadonlyArray<LayerConfig>
  /** Logits z become cap · tanh(z / cap). */
  readonly logitSoftCap: number | undefined
}

export type NormConfig =
  /** x / √(mean x² + eps) · (weight + offset) */
  | { readonly kind: "rms"; readonly eps: number; readonly offset: number }
  /** (x − mean) / √(variance + eps) · weight + bias */
  | { readonly kind: "layer"; readonly eps: number }

export interface AttentionConfig {
  /** The projections to queries, keys and values have biases. */
  readonly bias: boolean
  /** The projection of the result has one. */
  readonly outputBias: boolean
  /** Each query head and each key head goes through an RMS norm before it is turned. */
  readonly qkNorm: { readonly eps: number; readonly offset: number } | undefined
  /** Scores s become cap · tanh(s / cap). */
  readonly softCap: number | undefined
}

export interface FeedForwardConfig {
  readonly activation: Activation
  /** down(activation(gate(x)) · up(x)) rather than down(activation(up(x))). */
  readonly gated: boolean
  readonly bias: boolean
}

export interface LayerConfig {
  /** Key of `ropes`; without it queries and keys are not turned. */
  readonly rope: string | undefined
  /** Keys that a query sees at most, its own included. */
  readonly window: number | undefined
  /** Factor on query · key. */
  readonly attentionScale: number
}
