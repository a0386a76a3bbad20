import type { Family } from "./family.ts"
import { llama } from "./llama.ts"
import { layersOf, readBlocks, readOnlyRope, readSliding } from "./reading.ts"

/** Qwen 2 and 2.5: biases on queries, keys and values, and on request a sliding window in the upper layers. */
export const qwen2: Family = {
  ...llama,
  modelType: "qwen2",
  architectures: {
    lm: "Qwen2ForCausalLM",
    value: "Qwen2ForTokenClassification",
    reward: "Qwen2ForSequenceClassification",
  },
  defaults: { ...llama.defaults, numKeyValueHeads: 32, maxPositionEmbeddings: 32_768 },
  bosTokenId: null,
  eosTokenId: null,
  structure: (config, sizes) => {
    const window = config.boolean("use_sliding_window", false) ? config.optional("sliding_window", 4096) : undefined
    const lower = config.json["max_window_layers"] === 0 ? 0 : config.integer("max_window_layers", 28)
    const sliding = readSliding(config, sizes, (layer) => layer >= lower)
    const blocks = readBlocks(config)
    return {
      ...blocks,
      attention: { ...blocks.attention, bias: true, outputBias: false },
      ropes: { default: readOnlyRope(config, sizes, 10_000) },
      layers: layersOf(sizes, (layer) => ({ window: sliding[layer] ? window : undefined })),
    }
  },
}
