import type { Family } from "./family.ts"

/** Llama 1, 2 and everything published as `LlamaForCausalLM` without RoPE scaling. */
export const llama: Family = {
  modelType: "llama",
  architectures: { lm: "LlamaForCausalLM", value: "LlamaForTokenClassification" },
  keys: {
    vocabSize: "vocab_size",
    hiddenSize: "hidden_size",
    intermediateSize: "intermediate_size",
    numHiddenLayers: "num_hidden_layers",
    numAttentionHeads: "num_attention_heads",
    numKeyValueHeads: "num_key_value_heads",
    headDim: "head_dim",
    maxPositionEmbeddings: "max_position_embeddings",
    rmsNormEps: "rms_norm_eps",
    ropeTheta: "rope_theta",
    initializerRange: "initializer_range",
  },
  defaults: { maxPositionEmbeddings: 2048, rmsNormEps: 1e-6, ropeTheta: 10_000, initializerRange: 0.02 },
  tieWordEmbeddings: false,
  bosTokenId: 1,
  eosTokenId: 2,
  only: { hidden_act: ["silu"], attention_bias: [false], mlp_bias: [false], attention_dropout: [0] },
  tensors: {
    "embed_tokens.weight": ["model.embed_tokens.weight"],
    "layers.{layer}.input_layernorm.weight": ["model.layers.{layer}.input_layernorm.weight"],
    "layers.{layer}.self_attn.qkv_proj.weight": [
      "model.layers.{layer}.self_attn.q_proj.weight",
      "model.layers.{layer}.self_attn.k_proj.weight",
      "model.layers.{layer}.self_attn.v_proj.weight",
    ],
    "layers.{layer}.self_attn.o_proj.weight": ["model.layers.{layer}.self_attn.o_proj.weight"],
    "layers.{layer}.post_attention_layernorm.weight": ["model.layers.{layer}.post_attention_layernorm.weight"],
    "layers.{layer}.mlp.gate_up_proj.weight": [
      "model.layers.{layer}.mlp.gate_proj.weight",
      "model.layers.{layer}.mlp.up_proj.weight",
    ],
    "layers.{layer}.mlp.down_proj.weight": ["model.layers.{layer}.mlp.down_proj.weight"],
    "norm.weight": ["model.norm.weight"],
    "lm_head.weight": ["lm_head.weight"],
    "value.weight": ["score.weight"],
    "value.bias": ["score.bias"],
  },
  ignoredTensors: /\.rotary_emb\.inv_freq$/,
}
