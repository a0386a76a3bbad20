import { attention, embedding, linear, rmsNorm, rope, ropeTable, swiglu, type Gpu, type Tensor } from "@rlpt/tensor"
import type { DecoderConfig } from "./config.ts"
import type { Head } from "./families/family.ts"
import { decoderParameters, type Parameters, type ParameterSpec } from "./parameters.ts"

/** N tokens of any number of sequences, one after the other. */
export interface PackedTokens {
  /** Token ids, i32 [N]. */
  readonly tokens: Tensor
  /** Position of each token in its sequence, i32 [N]. */
  readonly positions: Tensor
  /**
   * The keys that each token attends to, i32 [N, 4]: (prefixBase, prefixLength, ownBase, keyCount). Key p, 0 ≤ p <
   * keyCount, is key-value row prefixBase + p while p < prefixLength and ownBase + p − prefixLength from there on.
   */
  readonly spans: Tensor
}

/** Key-value rows that outlive a forward pass, for decoding token by token. */
export interface KvCache {
  /** One tensor per layer, f32 [rows, 2·Hkv·d], written in place. */
  readonly layers: ReadonlyArray<Tensor>
  /** The row that each token's key and value go to, i32 [N]. */
  readonly rows: Tensor
}

/** The forward pass of a decoder-only transformer. It owns no weights: they are handed in by name. */
export interface Decoder {
  readonly config: DecoderConfig
  /** Which of {@link head} and {@link values} the decoder has. */
  readonly kind: Head
  /** Names and shapes of the parameters that the functions below read. */
  readonly specs: ReadonlyArray<ParameterSpec>
  /**
   * Last hidden states after the final norm, f32 [N, D]. Training and decoding run this one function: without a cache,
   * spans count rows among these N tokens; with one, they count the cache's rows.
   */
  readonly hidden: (parameters: Parameters, input: PackedTokens, cache?: KvCache) => Tensor
  /** Weight of the language-model head, f32 [V, D]: the embedding table where the two are tied. */
  readonly head: (parameters: Parameters) => Tensor
  /** The value head's estimates, f32 [N], from hidden states [N, D]. */
  readonly values: (parameters: Parameters, hidden: Tensor) => Tensor
  /** Frees the RoPE table. */
  readonly dispose: () => void
}

/** The decoder that `config` describes. */
export const createDecoder = (gpu: Gpu, config: DecoderConfig, kind: Head = "lm"): Decoder => {
  const { headDim, rmsNormEps, numHiddenLayers } = config
  const heads = { heads: config.numAttentionHeads, kvHeads: config.numKeyValueHeads, headDim }
  const table = ropeTable(gpu, { positions: config.maxPositionEmbeddings, headDim, theta: config.ropeTheta })

  const hidden: Decoder["hidden"] = (parameters, { tokens, positions, spans }, cache) => {
    let x = embedding(get(parameters, "embed_tokens.weight"), tokens)
    for (let layer = 0; layer < numHiddenLayers; layer++) {
      const weight = (name: string) => get(parameters, `layers.${layer}.${name}.weight`)

      const qkv = linear(rmsNorm(x, weight("input_layernorm"), rmsNormEps), weight("self_attn.qkv_proj"))
      const { q, kv } = rope(qkv, table, positions, {
        ...heads,
        ...(cache && { cache: { cache: cache.layers[layer]!, rows: cache.rows } }),
      })
      x = linear(attention(q, kv, spans, heads), weight("self_attn.o_proj"), { residual: x })

      const gateUp = linear(rmsNorm(x, weight("post_attention_layernorm"), rmsNormEps), weight("mlp.gate_up_proj"))
      x = linear(swiglu(gateUp), weight("mlp.down_proj"), { residual: x })
    }
    return rmsNorm(x, get(parameters, "norm.weight"), rmsNormEps)
  }

  return {
    config,
    kind,
    specs: decoderParameters(config, kind),
    hidden,
    head: (parameters) => get(parameters, config.tieWordEmbeddings ? "embed_tokens.weight" : "lm_head.weight"),
    values: (parameters, x) =>
      linear(x, get(parameters, "value.weight"), { bias: get(parameters, "value.bias") }).reshape([x.shape[0]!]),
    dispose: () => table.dispose(),
  }
}

const get = (parameters: Parameters, name: string): Tensor => {
  const tensor = parameters[name]
  if (tensor === undefined) throw new TypeError(`the decoder needs parameter "${name}", which was not given`)
  return tensor
}
