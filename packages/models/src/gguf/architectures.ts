/**
 * How llama.cpp's converter writes each architecture: keys of `config.json` under `<architecture>.` in the metadata,
 * tensor names, and what it does to their values (conversion/*.py and gguf-py/gguf/tensor_mapping.py of llama.cpp).
 */

/** What the converter did to a tensor's values, to be undone. */
export type Conversion =
  /** Rows of each head were reordered from halves to pairs, as ggml's rotary embedding of Llama reads them. */
  | "queries to pairs"
  | "keys to pairs"
  /** Gemma multiplies by 1 + weight; ggml's file holds the sum. */
  | "plus one"
  /** GPT-2 stores [in, out]; ggml's file [out, in]. */
  | "transposed"

export interface TensorRule {
  /** Name in the GGUF file, `{layer}` for the layer's index, without the suffix. */
  readonly gguf: string
  /** Name in a Hugging Face checkpoint. */
  readonly hf: string
  readonly conversion?: Conversion
}

export interface Architecture {
  readonly modelType: string
  /** `architectures[0]` of `config.json`. */
  readonly className: string
  /** Keys of the metadata by keys of `config.json`; the first one there counts. */
  readonly keys: Readonly<Record<string, ReadonlyArray<string>>>
  /** What llama.cpp takes for granted and does not store. */
  readonly fixed: Readonly<Record<string, unknown>>
  readonly tensors: ReadonlyArray<TensorRule>
}

const keys = {
  max_position_embeddings: ["context_length"],
  hidden_size: ["embedding_length"],
  intermediate_size: ["feed_forward_length"],
  num_hidden_layers: ["block_count"],
  num_attention_heads: ["attention.head_count"],
  num_key_value_heads: ["attention.head_count_kv"],
  head_dim: ["attention.key_length"],
  rms_norm_eps: ["attention.layer_norm_rms_epsilon"],
  rope_theta: ["rope.freq_base"],
} as const

const layer = (gguf: string, hf: string, conversion?: Conversion): TensorRule => ({
  gguf: `blk.{layer}.${gguf}`,
  hf: `model.layers.{layer}.${hf}`,
  ...(conversion && { conversion }),
})

const ends: ReadonlyArray<TensorRule> = [
  { gguf: "token_embd", hf: "model.embed_tokens" },
  { gguf: "output_norm", hf: "model.norm" },
  { gguf: "output", hf: "lm_head" },
]
const values = layer("attn_v", "self_attn.v_proj")
const attentionOutput = layer("attn_output", "self_attn.o_proj")
const down = layer("ffn_down", "mlp.down_proj")
const gated = [layer("ffn_gate", "mlp.gate_proj"), layer("ffn_up", "mlp.up_proj"), down]
const twoNorms = [layer("attn_norm", "input_layernorm"), layer("ffn_norm", "post_attention_layernorm")]
const plainHeads = [layer("attn_q", "self_attn.q_proj"), layer("attn_k", "self_attn.k_proj"), values]
const pairedHeads = [
  layer("attn_q", "self_attn.q_proj", "queries to pairs"),
  layer("attn_k", "self_attn.k_proj", "keys to pairs"),
  values,
]
const headNorms = (conversion?: Conversion) => [
  layer("attn_q_norm", "self_attn.q_norm", conversion),
  layer("attn_k_norm", "self_attn.k_norm", conversion),
]

const llama: Architecture = {
  modelType: "llama",
  className: "LlamaForCausalLM",
  keys: { ...keys, head_dim: ["attention.key_length", "rope.dimension_count"] },
  fixed: { hidden_act: "silu" },
  tensors: [...ends, ...twoNorms, ...pairedHeads, attentionOutput, ...gated],
}

const qwen2: Architecture = {
  ...llama,
  keys,
  modelType: "qwen2",
  className: "Qwen2ForCausalLM",
  tensors: [...ends, ...twoNorms, ...plainHeads, attentionOutput, ...gated],
}

const gemma2: Architecture = {
  modelType: "gemma2",
  className: "Gemma2ForCausalLM",
  keys: {
    ...keys,
    // ggml scales by 1/√(head size), as every Gemma but the 27B does.
    query_pre_attn_scalar: ["attention.key_length"],
    sliding_window: ["attention.sliding_window"],
    attn_logit_softcapping: ["attn_logit_softcapping"],
    final_logit_softcapping: ["final_logit_softcapping"],
  },
  fixed: { hidden_activation: "gelu_pytorch_tanh", rope_theta: 10_000 },
  tensors: [
    ...ends.map((rule) => (rule.gguf === "output_norm" ? { ...rule, conversion: "plus one" as const } : rule)),
    layer("attn_norm", "input_layernorm", "plus one"),
    layer("post_attention_norm", "post_attention_layernorm", "plus one"),
    layer("ffn_norm", "pre_feedforward_layernorm", "plus one"),
    layer("post_ffw_norm", "post_feedforward_layernorm", "plus one"),
    ...plainHeads,
    attentionOutput,
    ...gated,
  ],
}

const gemma3: Architecture = {
  ...gemma2,
  modelType: "gemma3_text",
  className: "Gemma3ForCausalLM",
  fixed: { hidden_activation: "gelu_pytorch_tanh", rope_local_base_freq: 10_000, sliding_window_pattern: 6 },
  tensors: [...gemma2.tensors, ...headNorms("plus one")],
}

const gpt2Layer = (gguf: string, hf: string, conversion?: Conversion): TensorRule => ({
  ...layer(gguf, hf, conversion),
  hf: `transformer.h.{layer}.${hf}`,
})

const gpt2: Architecture = {
  modelType: "gpt2",
  className: "GPT2LMHeadModel",
  keys: {
    n_positions: ["context_length"],
    n_embd: ["embedding_length"],
    n_inner: ["feed_forward_length"],
    n_layer: ["block_count"],
    n_head: ["attention.head_count"],
    layer_norm_epsilon: ["attention.layer_norm_epsilon"],
  },
  fixed: { activation_function: "gelu_new" },
  tensors: [
    { gguf: "token_embd", hf: "transformer.wte" },
    { gguf: "position_embd", hf: "transformer.wpe" },
    { gguf: "output_norm", hf: "transformer.ln_f" },
    { gguf: "output", hf: "lm_head" },
    gpt2Layer("attn_norm", "ln_1"),
    gpt2Layer("attn_qkv", "attn.c_attn", "transposed"),
    gpt2Layer("attn_output", "attn.c_proj", "transposed"),
    gpt2Layer("ffn_norm", "ln_2"),
    gpt2Layer("ffn_up", "mlp.c_fc", "transposed"),
    gpt2Layer("ffn_down", "mlp.c_proj", "transposed"),
  ],
}

const phi3: Architecture = {
  modelType: "phi3",
  className: "Phi3ForCausalLM",
  keys: {
    ...keys,
    original_max_position_embeddings: ["rope.scaling.original_context_length"],
    sliding_window: ["attention.sliding_window"],
  },
  fixed: { hidden_act: "silu" },
  tensors: [
    ...ends,
    ...twoNorms,
    layer("attn_qkv", "self_attn.qkv_proj"),
    attentionOutput,
    layer("ffn_up", "mlp.gate_up_proj"),
    down,
  ],
}

/** By `general.architecture`. Mistral and SmolLM2 are stored as `llama`. */
export const architectures: Readonly<Record<string, Architecture>> = {
  llama,
  qwen2,
  qwen3: {
    ...qwen2,
    modelType: "qwen3",
    className: "Qwen3ForCausalLM",
    tensors: [...qwen2.tensors, ...headNorms()],
  },
  gemma2,
  gemma3,
  gpt2,
  phi3,
  smollm3: {
    ...llama,
    modelType: "smollm3",
    className: "SmolLM3ForCausalLM",
    fixed: { ...llama.fixed, no_rope_layer_interval: 4 },
  },
}
