import type { Family } from "./family.ts"
import { layersOf, readBlocks, readOnlyRope } from "./reading.ts"

/** Llama 1, 2 and 3.x, SmolLM2, and everything else published as `LlamaForCausalLM`. */
export const llama: Family = {
  modelType: "llama",
  architectures: {
    lm: "LlamaForCausalLM",
    value: "LlamaForTokenClassification",
    reward: "LlamaForSequenceClassification",
  },
  keys: {
    vocabSize: "vocab_size",
    hiddenSize: "hidden_size",
    intermediateSize: "intermediate_size",
    numHiddenLayers: "num_hidden_layers",
    numAttentionHeads: "num_attention_heads",
    numKeyValueHeads: "num_key_value_heads",
    headDim: "head_dim",
    maxPositionEmbeddings: "max_position_embeddings",
    initializerRange: "initializer_range",
  },
  defaults: { maxPositionEmbeddings: 2048, initializerRange: 0.02 },
  tieWordEmbeddings: false,
  bosTokenId: 1,
  eosTokenId: 2,
  only: { attention_dropout: [0] },
  structure: (config, sizes) => ({
    ...readBlocks(config),
    ropes: { default: readOnlyRope(config, sizes, 10_000) },
    layers: layersOf(sizes),
  }),
  modules: {
    embed_tokens: ["model.embed_tokens"],
    "layers.{layer}.input_layernorm": ["model.layers.{layer}.input_layernorm"],
    "layers.{layer}.self_attn.qkv_proj": [
      "model.layers.{layer}.self_attn.q_proj",
      "model.layers.{layer}.self_attn.k_proj",
      "model.layers.{layer}.self_attn.v_proj",
    ],
    "layers.{layer}.self_attn.o_proj": ["model.layers.{layer}.self_attn.o_proj"],
    "layers.{layer}.pre_feedforward_layernorm": ["model.layers.{layer}.post_attention_layernorm"],
    "layers.{layer}.mlp.gate_up_proj": ["model.layers.{layer}.mlp.gate_proj", "model.layers.{layer}.mlp.up_proj"],
    "layers.{layer}.mlp.down_proj": ["model.layers.{layer}.mlp.down_proj"],
    norm: ["model.norm"],
    lm_head: ["lm_head"],
    value: ["score"],
    reward: ["score"],
  },
  transposed: [],
  prefix: "model.",
  ignoredTensors: /\.rotary_emb\.inv_freq$/,
}
