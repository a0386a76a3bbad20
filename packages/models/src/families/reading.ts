import type { Activation } from "@rlpt/tensor"
import type { ConfigReader } from "../config-reader.ts"
import { readRope, ropeParameters, type RopeConfig } from "../rope.ts"
import type { LayerConfig, Sizes, Structure } from "../structure.ts"

/** Parts of a structure that several families read from `config.json` alike. */

/** Hugging Face's names of activations. */
const activations: Readonly<Record<string, Activation>> = {
  silu: "silu",
  swish: "silu",
  gelu: "gelu",
  gelu_new: "geluTanh",
  gelu_pytorch_tanh: "geluTanh",
}

export const readActivation = (config: ConfigReader, key: string, fallback: string): Activation => {
  const activation = activations[config.string(key, fallback)]
  const known = Object.keys(activations).map((name) => `"${name}"`)
  if (activation === undefined) throw config.unsupported(key, known.join(", "))
  return activation
}

/** The epsilon of RMS norms. */
export const readEps = (config: ConfigReader, fallback = 1e-6): number => config.number("rms_norm_eps", fallback)

/** What a layer of a Llama does, and of all that are made after it. */
export const readBlocks = (config: ConfigReader): Omit<Structure, "ropes" | "layers"> => ({
  embeddingScale: 1,
  learnedPositions: false,
  norm: { kind: "rms", eps: readEps(config), offset: 0 },
  postNorms: false,
  attention: {
    bias: config.boolean("attention_bias", false),
    outputBias: config.boolean("attention_bias", false),
    qkNorm: undefined,
    softCap: undefined,
  },
  feedForward: {
    activation: readActivation(config, "hidden_act", "silu"),
    gated: true,
    bias: config.boolean("mlp_bias", false),
  },
  logitSoftCap: undefined,
})

/** The one rotary embedding of a model in which all layers turn alike; `rotaryDim` if it turns part of each head. */
export const readOnlyRope = (
  config: ConfigReader,
  sizes: Sizes,
  theta: number,
  rotaryDim = sizes.headDim,
): RopeConfig => readRope(config, ropeParameters(config), { ...sizes, rotaryDim }, config.number("rope_theta", theta))

/** Layers that are all alike, but for what `vary` says of one. */
export const layersOf = (
  { numHiddenLayers, headDim }: Sizes,
  vary: (layer: number) => Partial<LayerConfig> = () => ({}),
): ReadonlyArray<LayerConfig> =>
  Array.from({ length: numHiddenLayers }, (_, layer) => ({
    rope: "default",
    window: undefined,
    attentionScale: 1 / Math.sqrt(headDim),
    ...vary(layer),
  }))

/** Whether each layer slides: what `layer_types` says, else `fallback`. */
export const readSliding = (
  config: ConfigReader,
  { numHiddenLayers }: Sizes,
  fallback: (layer: number) => boolean,
): ReadonlyArray<boolean> => {
  const types = config.perLayer("layer_types", numHiddenLayers, ["full_attention", "sliding_attention"])
  return Array.from({ length: numHiddenLayers }, (_, layer) =>
    types === undefined ? fallback(layer) : types[layer] === "sliding_attention",
  )
}
