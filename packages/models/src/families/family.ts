import type { ConfigReader } from "../config-reader.ts"
import type { SizeName, Sizes, Structure } from "../structure.ts"

/**
 * Which head a decoder ends in: next-token logits, one value per token, or one reward per sequence. With several labels
 * the latter two classify tokens and sequences, as transformers' `…ForTokenClassification` and
 * `…ForSequenceClassification`.
 */
export type Head = "lm" | "value" | "reward"

/**
 * Modules of the decoder that have parameters, and the modules of a checkpoint that are stacked, row by row, into each.
 * `{layer}` stands for the layer's index; parameters are named after their module, `.weight` or `.bias`.
 */
export interface ModuleNames {
  readonly embed_tokens: readonly [string]
  readonly embed_positions?: readonly [string]
  readonly "layers.{layer}.input_layernorm": readonly [string]
  /** Query, key and value; one name if the checkpoint has them fused in this order. */
  readonly "layers.{layer}.self_attn.qkv_proj": readonly [string] | readonly [query: string, key: string, value: string]
  readonly "layers.{layer}.self_attn.q_norm"?: readonly [string]
  readonly "layers.{layer}.self_attn.k_norm"?: readonly [string]
  readonly "layers.{layer}.self_attn.o_proj": readonly [string]
  readonly "layers.{layer}.post_attention_layernorm"?: readonly [string]
  readonly "layers.{layer}.pre_feedforward_layernorm": readonly [string]
  /** Gate and up; one name if the checkpoint has them fused in this order. */
  readonly "layers.{layer}.mlp.gate_up_proj"?: readonly [string] | readonly [gate: string, up: string]
  /** Where there is no gate. */
  readonly "layers.{layer}.mlp.up_proj"?: readonly [string]
  readonly "layers.{layer}.mlp.down_proj": readonly [string]
  readonly "layers.{layer}.post_feedforward_layernorm"?: readonly [string]
  readonly norm: readonly [string]
  readonly lm_head: readonly [string]
  readonly value: readonly [string]
  readonly reward: readonly [string]
}

export type ModuleName = keyof ModuleNames

/** How a family of models writes `config.json` and names its tensors. A family is data: the decoder is one. */
export interface Family {
  /** `model_type` of `config.json`. */
  readonly modelType: string
  /** `architectures[0]` of `config.json`, by head. */
  readonly architectures: Readonly<Record<Head, string>>
  /** Keys of `config.json`. */
  readonly keys: Readonly<Record<SizeName, string>>
  /**
   * What transformers assumes for a key that is absent. A size without a default is required, but for `headDim`
   * (`hiddenSize` over the heads) and `numKeyValueHeads` (`numAttentionHeads`).
   */
  readonly defaults: Readonly<Partial<Record<Exclude<SizeName, "intermediateSize">, number>>> & {
    readonly intermediateSize?: number | ((hiddenSize: number) => number)
  }
  readonly tieWordEmbeddings: boolean
  readonly bosTokenId: number | null
  readonly eosTokenId: number | null
  /** Keys whose other values mean a computation that the decoder does not do; absent or null is fine. */
  readonly only: Readonly<Record<string, ReadonlyArray<unknown>>>
  /** What the decoder does, read from `config.json`. */
  readonly structure: (config: ConfigReader, sizes: Sizes) => Structure
  readonly modules: ModuleNames
  /** Modules whose weights the checkpoint stores as [in, out]. */
  readonly transposed: ReadonlyArray<ModuleName>
  /** What the names of all but the heads start with. A checkpoint of the headless model may leave it out. */
  readonly prefix: string
  /** Buffers that old checkpoints carry along and nothing reads. */
  readonly ignoredTensors: RegExp
}
