import { readRope } from "../rope.ts"
import type { Family } from "./family.ts"
import { gemma2, readAttentionScale, readGemmaBlocks } from "./gemma2.ts"
import { qwen3 } from "./qwen3.ts"
import { layersOf, readEps, readSliding } from "./reading.ts"

/**
 * The text model of Gemma 3: as Gemma 2, with norms of query and key heads in place of the caps, and one global layer
 * after five local ones, each kind with a rotary embedding of its own.
 */
export const gemma3: Family = {
  ...gemma2,
  modelType: "gemma3_text",
  architectures: {
    lm: "Gemma3ForCausalLM",
    value: "Gemma3TextForTokenClassification",
    reward: "Gemma3TextForSequenceClassification",
  },
  defaults: { ...gemma2.defaults, maxPositionEmbeddings: 131_072 },
  // transformers reads a cap of the scores and does not apply it.
  only: { ...gemma2.only, attn_logit_softcapping: [null] },
  structure: (config, sizes) => {
    const window = config.optional("sliding_window", 4096)
    const pattern = config.integer("sliding_window_pattern", 6)
    const sliding = readSliding(config, sizes, (layer) => (layer + 1) % pattern !== 0)
    const shape = { ...sizes, rotaryDim: sizes.headDim }
    // Since transformers 5 both are in `rope_parameters`; before, a scaling was meant for the global layers alone.
    const nested = config.object("rope_parameters")
    const local = nested?.object("sliding_attention")
    const global = nested?.object("full_attention") ?? config.object("rope_scaling")
    const blocks = readGemmaBlocks(config, sizes)
    const attentionScale = readAttentionScale(config)
    return {
      ...blocks,
      attention: { ...blocks.attention, qkNorm: { eps: readEps(config), offset: 1 } },
      ropes: {
        local: readRope(config, local, shape, config.number("rope_local_base_freq", 10_000)),
        global: readRope(config, global, shape, config.number("rope_theta", 1_000_000)),
      },
      layers: layersOf(sizes, (layer) => ({
        rope: sliding[layer] ? "local" : "global",
        window: sliding[layer] ? window : undefined,
        attentionScale,
      })),
      logitSoftCap: config.optional("final_logit_softcapping"),
    }
  },
  modules: { ...qwen3.modules, ...gemma2.modules },
}
