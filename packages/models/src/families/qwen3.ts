import type { Family } from "./family.ts"
import { llama } from "./llama.ts"
import { qwen2 } from "./qwen2.ts"
import { readBlocks, readEps } from "./reading.ts"

/** Qwen 3: each query and key head has a norm, in place of Qwen 2's biases. */
export const qwen3: Family = {
  ...qwen2,
  modelType: "qwen3",
  architectures: {
    lm: "Qwen3ForCausalLM",
    value: "Qwen3ForTokenClassification",
    reward: "Qwen3ForSequenceClassification",
  },
  defaults: { ...qwen2.defaults, headDim: 128 },
  structure: (config, sizes) => ({
    ...qwen2.structure(config, sizes),
    attention: { ...readBlocks(config).attention, qkNorm: { eps: readEps(config), offset: 0 } },
  }),
  modules: {
    ...llama.modules,
    "layers.{layer}.self_attn.q_norm": ["model.layers.{layer}.self_attn.q_norm"],
    "layers.{layer}.self_attn.k_norm": ["model.layers.{layer}.self_attn.k_norm"],
  },
}
