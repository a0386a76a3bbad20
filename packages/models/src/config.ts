import { ModelError } from "./errors.ts"
import { families } from "./families/index.ts"
import type { DecoderNumber, Family } from "./families/family.ts"

/** A decoder's hyperparameters, by transformers' names in camelCase. */
export interface DecoderConfig extends Readonly<Record<DecoderNumber, number>> {
  /** Key of `families`: how the checkpoint names things. */
  readonly family: string
  /** The language-model head is the embedding table. */
  readonly tieWordEmbeddings: boolean
  readonly bosTokenId: number | null
  readonly eosTokenIds: ReadonlyArray<number>
}

/** The family that `config` belongs to. */
export const familyOf = (config: DecoderConfig): Family => families[config.family]!

type Json = Readonly<Record<string, unknown>>

const isObject = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value)

/** Sizes and counts; the other numbers of a config are positive reals. */
const INTEGERS: ReadonlySet<DecoderNumber> = new Set<DecoderNumber>([
  "vocabSize",
  "hiddenSize",
  "intermediateSize",
  "numHiddenLayers",
  "numAttentionHeads",
  "numKeyValueHeads",
  "headDim",
  "maxPositionEmbeddings",
])

/**
 * Reads a parsed `config.json` as transformers 4 or 5 writes it.
 *
 * @param file the name that errors carry
 * @throws ModelError for an unknown architecture, a missing or invalid field, or a variant that is not supported
 */
export const parseConfig = (json: unknown, file = "config.json"): DecoderConfig => {
  if (!isObject(json)) throw new ModelError("invalid-file", file, "is not a JSON object")
  const family = findFamily(json, file)
  refuseVariants(json, family, file)

  // transformers 5 moved the RoPE base into `rope_parameters`.
  const rope = isObject(json["rope_parameters"]) ? json["rope_parameters"] : {}
  const read = (field: DecoderNumber, fallback: number | undefined = family.defaults[field]): number => {
    const key = family.keys[field]
    const value = json[key] ?? rope[key] ?? fallback
    if (value === undefined) throw new ModelError("invalid-file", file, `"${key}" is missing`)
    const integer = INTEGERS.has(field)
    if (typeof value !== "number" || !Number.isFinite(value) || value <= 0 || (integer && !Number.isInteger(value))) {
      const kind = integer ? "a positive integer" : "a positive number"
      throw new ModelError("invalid-file", file, `"${key}" must be ${kind}, not ${JSON.stringify(value)}`)
    }
    return value
  }

  const hiddenSize = read("hiddenSize")
  const numAttentionHeads = read("numAttentionHeads")
  const config: DecoderConfig = {
    family: family.modelType,
    vocabSize: read("vocabSize"),
    hiddenSize,
    intermediateSize: read("intermediateSize"),
    numHiddenLayers: read("numHiddenLayers"),
    numAttentionHeads,
    numKeyValueHeads: read("numKeyValueHeads", numAttentionHeads),
    headDim: read("headDim", hiddenSize / numAttentionHeads),
    maxPositionEmbeddings: read("maxPositionEmbeddings"),
    rmsNormEps: read("rmsNormEps"),
    ropeTheta: read("ropeTheta"),
    initializerRange: read("initializerRange"),
    tieWordEmbeddings: readBoolean(json, "tie_word_embeddings", family.tieWordEmbeddings, file),
    bosTokenId: tokenIds(json, "bos_token_id", family.bosTokenId, file)[0] ?? null,
    eosTokenIds: tokenIds(json, "eos_token_id", family.eosTokenId, file),
  }
  checkHeads(config, family, file)
  return config
}

const findFamily = (json: Json, file: string): Family => {
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
  const nearest = supported.toSorted((a, b) => editDistance(a, name) - editDistance(b, name))[0]!
  throw new ModelError(
    "unsupported",
    file,
    `architecture "${name}" is not supported; the nearest that is: ${nearest} (all: ${supported.join(", ")})`,
  )
}

const refuseVariants = (json: Json, family: Family, file: string): void => {
  for (const [key, allowed] of Object.entries(family.only)) {
    const value = json[key] ?? allowed[0]
    if (!allowed.includes(value)) {
      const values = allowed.map((one) => JSON.stringify(one)).join(" or ")
      throw new ModelError("unsupported", file, `"${key}": ${JSON.stringify(value)} is not supported, only ${values}`)
    }
  }
  for (const key of ["rope_scaling", "rope_parameters"]) {
    const scaling = json[key]
    if (!isObject(scaling)) continue
    const type = scaling["rope_type"] ?? scaling["type"] ?? "default"
    if (type !== "default") {
      throw new ModelError("unsupported", file, `"${key}" of type ${JSON.stringify(type)} is not supported`)
    }
  }
}

const readBoolean = (json: Json, key: string, fallback: boolean, file: string): boolean => {
  const value = json[key] ?? fallback
  if (typeof value !== "boolean") {
    throw new ModelError("invalid-file", file, `"${key}" must be true or false, not ${JSON.stringify(value)}`)
  }
  return value
}

/**
 * Token ids under `key`: a number, a list or null, and `fallback` where the key is absent.
 *
 * @throws ModelError if it is anything else
 */
export const tokenIds = (json: Json, key: string, fallback: number | null, file: string): ReadonlyArray<number> => {
  const value = json[key] === undefined ? fallback : json[key]
  const list: ReadonlyArray<unknown> = value === null ? [] : Array.isArray(value) ? value : [value]
  if (!list.every((id): id is number => Number.isSafeInteger(id) && (id as number) >= 0)) {
    throw new ModelError("invalid-file", file, `"${key}" must be token ids, not ${JSON.stringify(value)}`)
  }
  return list
}

const checkHeads = (config: DecoderConfig, { keys }: Family, file: string): void => {
  const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim } = config
  if (heads % kvHeads !== 0) {
    const problem = `"${keys.numAttentionHeads}" (${heads}) is not a multiple of "${keys.numKeyValueHeads}" (${kvHeads})`
    throw new ModelError("invalid-file", file, problem)
  }
  if (headDim % 4 !== 0) {
    const problem = `"${keys.headDim}" (${headDim}) is not a multiple of 4, the width at which attention reads heads`
    throw new ModelError("unsupported", file, problem)
  }
}

/** Levenshtein distance. */
const editDistance = (a: string, b: string): number => {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1))
    }
    row = next
  }
  return row[b.length]!
}
