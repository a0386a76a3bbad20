import type { Family } from "./family.ts"
import { llama } from "./llama.ts"
import { layersOf } from "./reading.ts"

/** Mistral 7B and what follows it as `MistralForCausalLM`: a Llama whose layers all have one sliding window. */
export const mistral: Family = {
  ...llama,
  modelType: "mistral",
  architectures: {
    lm: "MistralForCausalLM",
    value: "MistralForTokenClassification",
    reward: "MistralForSequenceClassification",
  },
  defaults: { ...llama.defaults, numKeyValueHeads: 8, maxPositionEmbeddings: 131_072 },
  structure: (config, sizes) => {
    const window = config.optional("sliding_window", 4096)
    return { ...llama.structure(config, sizes), layers: layersOf(sizes, () => ({ window })) }
  },
}
