import { ropeParameters } from "../rope.ts"
import type { Family } from "./family.ts"
import { llama } from "./llama.ts"
import { layersOf, readBlocks, readEps, readOnlyRope } from "./reading.ts"

/** Phi-3, Phi-3.5 and Phi-4-mini: fused projections, a rotary embedding of part of each head, LongRoPE. */
export const phi3: Family = {
  ...llama,
  modelType: "phi3",
  architectures: {
    lm: "Phi3ForCausalLM",
    value: "Phi3ForTokenClassification",
    reward: "Phi3ForSequenceClassification",
  },
  defaults: { ...llama.defaults, maxPositionEmbeddings: 4096 },
  eosTokenId: 32_000,
  only: { attention_dropout: [0], attention_bias: [false], mlp_bias: [false], lm_head_bias: [false] },
  structure: (config, sizes) => {
    const window = config.optional("sliding_window")
    const whole = config.number("partial_rotary_factor", 1)
    const part = ropeParameters(config)?.number("partial_rotary_factor", whole) ?? whole
    const rotaryDim = Math.floor(sizes.headDim * part)
    return {
      ...readBlocks(config),
      norm: { kind: "rms", eps: readEps(config, 1e-5), offset: 0 },
      ropes: { default: readOnlyRope(config, sizes, 10_000, rotaryDim) },
      layers: layersOf(sizes, () => ({ window })),
    }
  },
  modules: {
    ...llama.modules,
    "layers.{layer}.self_attn.qkv_proj": ["model.layers.{layer}.self_attn.qkv_proj"],
    "layers.{layer}.mlp.gate_up_proj": ["model.layers.{layer}.mlp.gate_up_proj"],
  },
}
