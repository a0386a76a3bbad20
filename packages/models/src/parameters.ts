import type { Tensor } from "@rlpt/tensor"
import { familyOf, type DecoderConfig } from "./config.ts"
import type { Head, ModuleName } from "./families/family.ts"

/** A decoder's parameters by name, in the order of {@link decoderParameters}. */
export type Parameters = Readonly<Record<string, Tensor>>

/** A tensor of the checkpoint and the shape it has there. */
export interface ParameterPart {
  readonly name: string
  readonly shape: ReadonlyArray<number>
  /** The checkpoint holds the transpose of the decoder's matrix. */
  readonly transposed?: true
}

/** How a parameter starts when a model is trained from scratch. */
export type Initializer =
  | { readonly kind: "constant"; readonly value: number }
  | { readonly kind: "normal"; readonly std: number }
  /** In (−bound, bound). */
  | { readonly kind: "uniform"; readonly bound: number }

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
 * a value head (`value.weight` [L, D], `value.bias` [L] for L labels) or a reward head (`reward.weight` [L, D]) takes the
 * place of the language-model head.
 *
 * From scratch, weights are drawn from N(0, initializerRange²); the two projections of a layer that add to the residual
 * stream are scaled by 1/√(2·layers) as in GPT-2, norms start at one, biases and those two heads at zero.
 */
export const decoderParameters = (config: DecoderConfig, head: Head): ReadonlyArray<ParameterSpec> => {
  const { hiddenSize, intermediateSize, vocabSize, numLabels, headDim, numHiddenLayers, norm, attention, feedForward } =
    config
  const { modules, transposed, modelType } = familyOf(config)
  const queries = config.numAttentionHeads * headDim
  const keys = config.numKeyValueHeads * headDim
  const normal = { kind: "normal", std: config.initializerRange } as const
  const residual = { kind: "normal", std: config.initializerRange / Math.sqrt(2 * numHiddenLayers) } as const
  const zeros = { kind: "constant", value: 0 } as const
  const one = { kind: "constant", value: norm.kind === "rms" ? 1 - norm.offset : 1 } as const

  const specs: ParameterSpec[] = []
  /** Parameter `kind` of a module; `rows` of each part, which may be fused, and the columns if it is a matrix. */
  const add = (
    module: ModuleName,
    kind: "weight" | "bias",
    rows: ReadonlyArray<number>,
    columns: number | undefined,
    initializer: Initializer,
    layer = 0,
  ) => {
    const numbered = (name: string) => `${name.replace("{layer}", String(layer))}.${kind}`
    const names = modules[module]
    if (names === undefined) throw new TypeError(`the family "${modelType}" does not name the module "${module}"`)
    const total = rows.reduce((a, b) => a + b)
    const partRows = names.length === 1 ? [total] : rows
    const flip = columns !== undefined && transposed.includes(module)
    const shapeOf = (height: number) => (columns === undefined ? [height] : [height, columns])
    specs.push({
      name: numbered(module),
      shape: shapeOf(total),
      parts: names.map((name, i) => {
        const shape = shapeOf(partRows[i]!)
        return { name: numbered(name), ...(flip ? { shape: shape.toReversed(), transposed: true } : { shape }) }
      }),
      initializer,
    })
  }
  const linear = (
    module: ModuleName,
    rows: ReadonlyArray<number>,
    columns: number,
    { bias, initializer = normal, layer }: { bias: boolean; initializer?: Initializer; layer?: number },
  ) => {
    add(module, "weight", rows, columns, initializer, layer)
    if (bias) add(module, "bias", rows, undefined, zeros, layer)
  }
  const normed = (module: ModuleName, width: number, layer?: number) => {
    add(module, "weight", [width], undefined, one, layer)
    if (norm.kind === "layer") add(module, "bias", [width], undefined, zeros, layer)
  }

  linear("embed_tokens", [vocabSize], hiddenSize, { bias: false })
  if (config.learnedPositions) linear("embed_positions", [config.maxPositionEmbeddings], hiddenSize, { bias: false })
  for (let layer = 0; layer < numHiddenLayers; layer++) {
    normed("layers.{layer}.input_layernorm", hiddenSize, layer)
    linear("layers.{layer}.self_attn.qkv_proj", [queries, keys, keys], hiddenSize, { bias: attention.bias, layer })
    if (attention.qkNorm !== undefined) {
      const unit = { kind: "constant", value: 1 - attention.qkNorm.offset } as const
      add("layers.{layer}.self_attn.q_norm", "weight", [headDim], undefined, unit, layer)
      add("layers.{layer}.self_attn.k_norm", "weight", [headDim], undefined, unit, layer)
    }
    const toResidual = { initializer: residual, layer }
    linear("layers.{layer}.self_attn.o_proj", [hiddenSize], queries, { bias: attention.outputBias, ...toResidual })
    if (config.postNorms) normed("layers.{layer}.post_attention_layernorm", hiddenSize, layer)
    normed("layers.{layer}.pre_feedforward_layernorm", hiddenSize, layer)
    const { bias, gated } = feedForward
    if (gated)
      linear("layers.{layer}.mlp.gate_up_proj", [intermediateSize, intermediateSize], hiddenSize, { bias, layer })
    else linear("layers.{layer}.mlp.up_proj", [intermediateSize], hiddenSize, { bias, layer })
    linear("layers.{layer}.mlp.down_proj", [hiddenSize], intermediateSize, { bias, ...toResidual })
    if (config.postNorms) normed("layers.{layer}.post_feedforward_layernorm", hiddenSize, layer)
  }
  normed("norm", hiddenSize)
  if (head === "value") linear("value", [numLabels], hiddenSize, { bias: true, initializer: zeros })
  else if (head === "reward") linear("reward", [numLabels], hiddenSize, { bias: false, initializer: zeros })
  else if (!config.tieWordEmbeddings) linear("lm_head", [vocabSize], hiddenSize, { bias: false })
  return specs
}

/** Whether a parameter belongs to a head for values or rewards, which a base model does not have yet. */
export const isValueHead = (name: string): boolean => /^(value|reward)\./.test(name)

/** Elements of a tensor of `shape`. */
export const sizeOf = (shape: ReadonlyArray<number>): number => shape.reduce((product, size) => product * size, 1)

/** Number of scalars in all parameters together. */
export const countParameters = (specs: ReadonlyArray<ParameterSpec>): number =>
  specs.reduce((total, { shape }) => total + sizeOf(shape), 0)
