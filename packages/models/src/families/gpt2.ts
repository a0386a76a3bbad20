import type { Family } from "./family.ts"
import { layersOf, readActivation } from "./reading.ts"

/** GPT-2: learned positions, layer norms, biases everywhere, no gate, and weights stored as [in, out]. */
export const gpt2: Family = {
  modelType: "gpt2",
  architectures: {
    lm: "GPT2LMHeadModel",
    value: "GPT2ForTokenClassification",
    reward: "GPT2ForSequenceClassification",
  },
  keys: {
    vocabSize: "vocab_size",
    hiddenSize: "n_embd",
    intermediateSize: "n_inner",
    numHiddenLayers: "n_layer",
    numAttentionHeads: "n_head",
    numKeyValueHeads: "n_head",
    headDim: "head_dim",
    maxPositionEmbeddings: "n_positions",
    initializerRange: "initializer_range",
  },
  defaults: {
    vocabSize: 50_257,
    hiddenSize: 768,
    intermediateSize: (hiddenSize) => 4 * hiddenSize,
    numHiddenLayers: 12,
    numAttentionHeads: 12,
    maxPositionEmbeddings: 1024,
    initializerRange: 0.02,
  },
  tieWordEmbeddings: true,
  bosTokenId: 50_256,
  eosTokenId: 50_256,
  only: { add_cross_attention: [false] },
  structure: (config, sizes) => {
    const scale = config.boolean("scale_attn_weights", true) ? 1 / Math.sqrt(sizes.headDim) : 1
    const byDepth = config.boolean("scale_attn_by_inverse_layer_idx", false)
    return {
      embeddingScale: 1,
      learnedPositions: true,
      norm: { kind: "layer", eps: config.number("layer_norm_epsilon", 1e-5) },
      postNorms: false,
      attention: { bias: true, outputBias: true, qkNorm: undefined, softCap: undefined },
      feedForward: {
        activation: readActivation(config, "activation_function", "gelu_new"),
        gated: false,
        bias: true,
      },
      ropes: {},
      layers: layersOf(sizes, (layer) => ({
        rope: undefined,
        attentionScale: byDepth ? scale / (layer + 1) : scale,
      })),
      logitSoftCap: undefined,
    }
  },
  modules: {
    embed_tokens: ["transformer.wte"],
    embed_positions: ["transformer.wpe"],
    "layers.{layer}.input_layernorm": ["transformer.h.{layer}.ln_1"],
    "layers.{layer}.self_attn.qkv_proj": ["transformer.h.{layer}.attn.c_attn"],
    "layers.{layer}.self_attn.o_proj": ["transformer.h.{layer}.attn.c_proj"],
    "layers.{layer}.pre_feedforward_layernorm": ["transformer.h.{layer}.ln_2"],
    "layers.{layer}.mlp.up_proj": ["transformer.h.{layer}.mlp.c_fc"],
    "layers.{layer}.mlp.down_proj": ["transformer.h.{layer}.mlp.c_proj"],
    norm: ["transformer.ln_f"],
    lm_head: ["lm_head"],
    value: ["classifier"],
    reward: ["score"],
  },
  transposed: [
    "layers.{layer}.self_attn.qkv_proj",
    "layers.{layer}.self_attn.o_proj",
    "layers.{layer}.mlp.up_proj",
    "layers.{layer}.mlp.down_proj",
  ],
  prefix: "transformer.",
  // Causal masks.
  ignoredTensors: /\.attn\.(masked_)?bias$/,
}
