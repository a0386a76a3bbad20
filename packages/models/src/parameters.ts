import type { Tensor } from "@rlpt/tensor"
import { familyOf, type DecoderConfig } from "./config.ts"
import type { Head, TensorNames } from "./families/family.ts"

/** A decoder's parameters by name, in the order of {@link decoderParameters}. */
export type Parameters = Readonly<Record<string, Tensor>>

/** A tensor of the checkpoint and the shape it has there. */
export interface ParameterPart {
  readonly name: string
  readonly shape: ReadonlyArray<number>
}

/** How a parameter starts when a model is trained from scratch. */
export type Initializer =
  | { readonly kind: "constant"; readonly value: number }
  | { readonly kind: "normal"; readonly std: number }

/** A parameter of the decoder: one or more tensors of the checkpoint, stacked along the first axis. */
export interface ParameterSpec {
  readonly name: string
  readonly shape: ReadonlyArray<number>
  readonly parts: ReadonlyArray<ParameterPart>
  readonly initializer: Initializer
}

/**
 * The decoder's parameters, from input to output. Projections that read the same input are fused: one [(H + 2·Hkv)·d, D]
 * weight for query, key and value, and one [2F, D] for gate and up. With tied embeddings there is no `lm_head.weight`;
 * a value head (`value.weight` [1, D], `value.bias` [1]) takes the place of the language-model head.
 *
 * From scratch, weights are drawn from N(0, initializerRange²); the two projections of a layer that add to the residual
 * stream are scaled by 1/√(2·layers) as in GPT-2, norms start at one and the value head at zero.
 */
export const decoderParameters = (config: DecoderConfig, head: Head): ReadonlyArray<ParameterSpec> => {
  const { tensors } = familyOf(config)
  const { hiddenSize, intermediateSize, vocabSize, headDim, numHiddenLayers } = config
  const queries = config.numAttentionHeads * headDim
  const keys = config.numKeyValueHeads * headDim
  const normal = { kind: "normal", std: config.initializerRange } as const
  const residual = { kind: "normal", std: config.initializerRange / Math.sqrt(2 * numHiddenLayers) } as const
  const ones = { kind: "constant", value: 1 } as const
  const zeros = { kind: "constant", value: 0 } as const

  const specs: ParameterSpec[] = []
  /** `rows` of each part, and the trailing axis if there is one. */
  const add = (
    template: keyof TensorNames,
    rows: ReadonlyArray<number>,
    columns: ReadonlyArray<number>,
    initializer: Initializer,
    layer = 0,
  ) => {
    const numbered = (name: string) => name.replace("{layer}", String(layer))
    specs.push({
      name: numbered(template),
      shape: [rows.reduce((a, b) => a + b), ...columns],
      parts: tensors[template].map((name, i) => ({ name: numbered(name), shape: [rows[i]!, ...columns] })),
      initializer,
    })
  }

  add("embed_tokens.weight", [vocabSize], [hiddenSize], normal)
  for (let layer = 0; layer < numHiddenLayers; layer++) {
    add("layers.{layer}.input_layernorm.weight", [hiddenSize], [], ones, layer)
    add("layers.{layer}.self_attn.qkv_proj.weight", [queries, keys, keys], [hiddenSize], normal, layer)
    add("layers.{layer}.self_attn.o_proj.weight", [hiddenSize], [queries], residual, layer)
    add("layers.{layer}.post_attention_layernorm.weight", [hiddenSize], [], ones, layer)
    add("layers.{layer}.mlp.gate_up_proj.weight", [intermediateSize, intermediateSize], [hiddenSize], normal, layer)
    add("layers.{layer}.mlp.down_proj.weight", [hiddenSize], [intermediateSize], residual, layer)
  }
  add("norm.weight", [hiddenSize], [], ones)
  if (head === "value") {
    add("value.weight", [1], [hiddenSize], zeros)
    add("value.bias", [1], [], zeros)
  } else if (!config.tieWordEmbeddings) {
    add("lm_head.weight", [vocabSize], [hiddenSize], normal)
  }
  return specs
}

/** Elements of a tensor of `shape`. */
export const sizeOf = (shape: ReadonlyArray<number>): number => shape.reduce((product, size) => product * size, 1)

/** Number of scalars in all parameters together. */
export const countParameters = (specs: ReadonlyArray<ParameterSpec>): number =>
  specs.reduce((total, { shape }) => total + sizeOf(shape), 0)
