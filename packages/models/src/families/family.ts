/** Which head a decoder ends in: next-token logits, or one value per token. */
export type Head = "lm" | "value"

/** The numbers a decoder is built from. */
export type DecoderNumber =
  | "vocabSize"
  | "hiddenSize"
  | "intermediateSize"
  | "numHiddenLayers"
  | "numAttentionHeads"
  | "numKeyValueHeads"
  | "headDim"
  | "maxPositionEmbeddings"
  | "rmsNormEps"
  | "ropeTheta"
  | "initializerRange"

/**
 * The tensors of a checkpoint that are stacked, along the first axis, into each of the decoder's parameters.
 * `{layer}` stands for the layer's index.
 */
export interface TensorNames {
  readonly "embed_tokens.weight": readonly [string]
  readonly "layers.{layer}.input_layernorm.weight": readonly [string]
  readonly "layers.{layer}.self_attn.qkv_proj.weight": readonly [query: string, key: string, value: string]
  readonly "layers.{layer}.self_attn.o_proj.weight": readonly [string]
  readonly "layers.{layer}.post_attention_layernorm.weight": readonly [string]
  readonly "layers.{layer}.mlp.gate_up_proj.weight": readonly [gate: string, up: string]
  readonly "layers.{layer}.mlp.down_proj.weight": readonly [string]
  readonly "norm.weight": readonly [string]
  readonly "lm_head.weight": readonly [string]
  readonly "value.weight": readonly [string]
  readonly "value.bias": readonly [string]
}

/** How a family of models writes `config.json` and names its tensors. A family is data: the decoder is one. */
export interface Family {
  /** `model_type` of `config.json`. */
  readonly modelType: string
  /** `architectures[0]` of `config.json`, by head. */
  readonly architectures: Readonly<Record<Head, string>>
  /** Keys of `config.json`. */
  readonly keys: Readonly<Record<DecoderNumber, string>>
  /** What transformers assumes for a key that is absent. A number without a default is required. */
  readonly defaults: Readonly<Partial<Record<DecoderNumber, number>>>
  readonly tieWordEmbeddings: boolean
  readonly bosTokenId: number | null
  readonly eosTokenId: number | null
  /** Keys whose other values mean a computation that the decoder does not do; absent or null is fine. */
  readonly only: Readonly<Record<string, ReadonlyArray<unknown>>>
  readonly tensors: TensorNames
  /** Buffers that old checkpoints carry along and nothing reads. */
  readonly ignoredTensors: RegExp
}
