import { ConfigReader, isObject } from "./config-reader.ts"
import { ModelError, unsupportedArchitecture } from "./errors.ts"
import { families } from "./families/index.ts"
import type { Family } from "./families/family.ts"
import { defaultContextLength } from "./rope.ts"
import type { SizeName, Sizes, Structure } from "./structure.ts"

/** A decoder's hyperparameters, by transformers' names in camelCase, and all that the decoder does with them. */
export interface DecoderConfig extends Sizes, Structure {
  /** Key of `families`: how the checkpoint names things. */
  readonly family: string
  /** The language-model head is the embedding table. */
  readonly tieWordEmbeddings: boolean
  readonly bosTokenId: number | null
  readonly eosTokenIds: ReadonlyArray<number>
  /** Outputs of a value or reward head. */
  readonly numLabels: number
}

export interface ConfigOptions {
  /**
   * Longest sequence that the decoder is prepared for. Default: what the model was trained for, which is
   * `max_position_embeddings`, but `original_max_position_embeddings` for LongRoPE (Phi-3, Phi-4-mini).
   */
  readonly contextLength?: number | undefined
  /**
   * Outputs of a head that classifies. Default: those of a classifier's own `id2label` (two where transformers leaves it
   * out), and one for a model that is none.
   */
  readonly numLabels?: number | undefined
}

/** The family that `config` belongs to. */
export const familyOf = (config: DecoderConfig): Family => families[config.family]!

/**
 * Reads a parsed `config.json` as transformers 4 or 5 writes it.
 *
 * @param file the name that errors carry
 * @throws ModelError for an unknown architecture, a missing or invalid field, or a variant that is not supported
 */
export const parseConfig = (json: unknown, file = "config.json", options: ConfigOptions = {}): DecoderConfig => {
  if (!isObject(json)) throw new ModelError("invalid-file", file, "is not a JSON object")
  const config = new ConfigReader(json, file)
  const family = findFamily(config)
  for (const [key, allowed] of Object.entries(family.only)) {
    const values = allowed.map((one) => JSON.stringify(one)).join(" or ")
    if (!allowed.includes(json[key] ?? allowed[0])) throw config.unsupported(key, values)
  }
  const sizes = readSizes(config, family, options)
  const structure = family.structure(config, sizes)
  if (structure.learnedPositions && sizes.contextLength > sizes.maxPositionEmbeddings) {
    const problem = `"${family.keys.maxPositionEmbeddings}" is ${sizes.maxPositionEmbeddings}: its positions are learnt, so that a context of ${sizes.contextLength} is not possible`
    throw new ModelError("unsupported", file, problem)
  }
  return {
    family: family.modelType,
    ...sizes,
    ...structure,
    tieWordEmbeddings: config.boolean("tie_word_embeddings", family.tieWordEmbeddings),
    bosTokenId: config.tokenIds("bos_token_id", family.bosTokenId)[0] ?? null,
    eosTokenIds: config.tokenIds("eos_token_id", family.eosTokenId),
    numLabels: options.numLabels ?? labelsOf(config, family),
  }
}

/**
 * Token ids under `key`: a number, a list or null, and `fallback` where the key is absent.
 *
 * @throws ModelError if it is anything else
 */
export const tokenIds = (
  json: Readonly<Record<string, unknown>>,
  key: string,
  fallback: number | null,
  file: string,
): ReadonlyArray<number> => new ConfigReader(json, file).tokenIds(key, fallback)

const findFamily = ({ json, file }: ConfigReader): Family => {
  const { architectures, model_type: modelType } = json
  const name: unknown = (Array.isArray(architectures) ? architectures[0] : undefined) ?? modelType
  if (typeof name !== "string") {
    throw new ModelError("invalid-file", file, `has neither "architectures" nor "model_type"`)
  }
  const known = Object.values(families).flatMap((family) =>
    [...Object.values(family.architectures), family.modelType].map((name) => ({ name, family })),
  )
  const match = known.find((candidate) => candidate.name === name)
  if (match !== undefined) return match.family
  const supported = Object.values(families).map((family) => family.architectures.lm)
  throw unsupportedArchitecture(name, supported, file)
}

/** A language model's config.json may have labels too, by default and without a meaning. */
const labelsOf = ({ json: { architectures, id2label } }: ConfigReader, family: Family): number => {
  const { value, reward } = family.architectures
  const isClassifier = Array.isArray(architectures) && [value, reward].includes(String(architectures[0]))
  if (!isClassifier) return 1
  return isObject(id2label) ? Math.max(1, Object.keys(id2label).length) : 2
}

/**
 * Far above every model's. A larger number is a corrupt file, which must not fill the memory with tables of layers before
 * the first missing tensor is noticed.
 */
const largest = (name: SizeName): number => (name === "numHiddenLayers" || name === "headDim" ? 10_000 : 2 ** 28)

const readSizes = (config: ConfigReader, { keys, defaults }: Family, { contextLength }: ConfigOptions): Sizes => {
  const size = (name: SizeName, fallback?: number) => {
    const usual = defaults[name]
    const value = config.integer(keys[name], typeof usual === "function" ? usual(hiddenSize) : (usual ?? fallback))
    if (value <= largest(name)) return value
    throw new ModelError("invalid-file", config.file, `"${keys[name]}" is ${value}; no model has so many`)
  }
  const hiddenSize = config.integer(keys.hiddenSize, defaults.hiddenSize)
  const heads = size("numAttentionHeads")
  const kvHeads = size("numKeyValueHeads", heads)
  const headDim = size("headDim", hiddenSize / heads)
  if (heads % kvHeads !== 0) {
    const problem = `"${keys.numAttentionHeads}" (${heads}) is not a multiple of "${keys.numKeyValueHeads}" (${kvHeads})`
    throw new ModelError("invalid-file", config.file, problem)
  }
  if (headDim % 4 !== 0) {
    const problem = `"${keys.headDim}" (${headDim}) is not a multiple of 4, the width at which attention reads heads`
    throw new ModelError("unsupported", config.file, problem)
  }
  const maxPositionEmbeddings = size("maxPositionEmbeddings")
  return {
    vocabSize: size("vocabSize"),
    hiddenSize,
    intermediateSize: size("intermediateSize"),
    numHiddenLayers: size("numHiddenLayers"),
    numAttentionHeads: heads,
    numKeyValueHeads: kvHeads,
    headDim,
    maxPositionEmbeddings,
    contextLength: contextLength ?? defaultContextLength(config, maxPositionEmbeddings),
    initializerRange: config.number(keys.initializerRange, defaults.initializerRange),
  }
}
