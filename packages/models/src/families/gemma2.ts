import type { ConfigReader } from "../config-reader.ts"
import type { Sizes } from "../structure.ts"
import type { Family } from "./family.ts"
import { llama } from "./llama.ts"
import { layersOf, readActivation, readBlocks, readEps, readOnlyRope, readSliding } from "./reading.ts"

/** What a layer of Gemma 2 does, and of Gemma 3 but for its attention. */
export const readGemmaBlocks = (config: ConfigReader, { hiddenSize }: Sizes): ReturnType<typeof readBlocks> => ({
  ...readBlocks(config),
  embeddingScale: Math.sqrt(hiddenSize),
  norm: { kind: "rms", eps: readEps(config), offset: 1 },
  postNorms: true,
  feedForward: {
    activation: readActivation(config, "hidden_activation", "gelu_pytorch_tanh"),
    gated: true,
    bias: false,
  },
})

export const readAttentionScale = (config: ConfigReader): number =>
  1 / Math.sqrt(config.number("query_pre_attn_scalar", 256))

/**
 * Gemma 2: scaled embeddings, norms around both parts of a layer with weights that count from 1, tanh caps on scores
 * and logits, and a sliding window in every other layer.
 */
export const gemma2: Family = {
  ...llama,
  modelType: "gemma2",
  architectures: {
    lm: "Gemma2ForCausalLM",
    value: "Gemma2ForTokenClassification",
    reward: "Gemma2ForSequenceClassification",
  },
  defaults: { ...llama.defaults, numKeyValueHeads: 4, headDim: 256, maxPositionEmbeddings: 8192 },
  tieWordEmbeddings: true,
  bosTokenId: 2,
  eosTokenId: 1,
  only: { attention_dropout: [0], use_bidirectional_attention: [false] },
  structure: (config, sizes) => {
    const blocks = readGemmaBlocks(config, sizes)
    const window = config.optional("sliding_window", 4096)
    const sliding = readSliding(config, sizes, (layer) => layer % 2 === 0)
    const attentionScale = readAttentionScale(config)
    return {
      ...blocks,
      attention: { ...blocks.attention, softCap: config.optional("attn_logit_softcapping", 50) },
      ropes: { default: readOnlyRope(config, sizes, 10_000) },
      layers: layersOf(sizes, (layer) => ({ window: sliding[layer] ? window : undefined, attentionScale })),
      logitSoftCap: config.optional("final_logit_softcapping", 30),
    }
  },
  modules: {
    ...llama.modules,
    "layers.{layer}.post_attention_layernorm": ["model.layers.{layer}.post_attention_layernorm"],
    "layers.{layer}.pre_feedforward_layernorm": ["model.layers.{layer}.pre_feedforward_layernorm"],
    "layers.{layer}.post_feedforward_layernorm": ["model.layers.{layer}.post_feedforward_layernorm"],
  },
}
