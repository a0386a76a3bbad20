import type { Family } from "./family.ts"
import { llama } from "./llama.ts"
import { layersOf, readBlocks, readOnlyRope, readSliding } from "./reading.ts"

/** SmolLM3: a Llama in which every fourth layer does without rotary embedding. */
export const smollm3: Family = {
  ...llama,
  modelType: "smollm3",
  architectures: {
    lm: "SmolLM3ForCausalLM",
    value: "SmolLM3ForTokenClassification",
    reward: "SmolLM3ForSequenceClassification",
  },
  defaults: { ...llama.defaults, numKeyValueHeads: 4, maxPositionEmbeddings: 32_768 },
  tieWordEmbeddings: true,
  bosTokenId: 128_000,
  eosTokenId: 128_001,
  structure: (config, sizes) => {
    const interval = config.integer("no_rope_layer_interval", 4)
    const listed = config.perLayer("no_rope_layers", sizes.numHiddenLayers, [0, 1])
    const turns = (layer: number) => (listed === undefined ? (layer + 1) % interval !== 0 : listed[layer] === 1)
    const window = config.boolean("use_sliding_window", false) ? config.optional("sliding_window") : undefined
    const sliding = readSliding(config, sizes, (layer) => !turns(layer))
    return {
      ...readBlocks(config),
      ropes: { default: readOnlyRope(config, sizes, 2_000_000) },
      layers: layersOf(sizes, (layer) => ({
        rope: turns(layer) ? "default" : undefined,
        window: sliding[layer] ? window : undefined,
      })),
    }
  },
}
