import type { ConfigReader } from "./config-reader.ts"
import { ModelError } from "./errors.ts"

/** Angles by which queries and keys turn: a row of a `ropeTable` is position · frequencies, times the scale. */
export interface RopeConfig {
  /** Angle per position of each pair of dimensions, f32 [rotaryDim / 2]. */
  readonly frequencies: Float32Array
  /** Factor on cosines and sines, and so, squared, on attention scores. */
  readonly scale: number
}

export interface RopeShape {
  /** Dimensions of a head that turn. */
  readonly rotaryDim: number
  readonly maxPositionEmbeddings: number
  /** Longest sequence: some scalings choose by it. */
  readonly contextLength: number
}

const TYPES = ["default", "linear", "dynamic", "llama3", "yarn", "longrope"] as const
type RopeType = (typeof TYPES)[number]

/** Where a config describes its RoPE: `rope_parameters` since transformers 5, `rope_scaling` before. */
export const ropeParameters = (config: ConfigReader): ConfigReader | undefined =>
  config.object("rope_scaling") ?? config.object("rope_parameters")

const typeOf = (parameters: ConfigReader): RopeType => {
  const key = parameters.json["rope_type"] === undefined ? "type" : "rope_type"
  const name = parameters.string(key, "default")
  // Phi-3 first called it "su", then "yarn".
  const type = name === "su" || (name === "yarn" && "long_factor" in parameters.json) ? "longrope" : name
  const known = TYPES.find((one) => one === type)
  if (known === undefined) throw parameters.unsupported(key, TYPES.map((one) => `"${one}"`).join(", "))
  return known
}

/** The length that a model was trained on before its RoPE was stretched. */
const originalLength = (config: ConfigReader, parameters: ConfigReader, fallback: number): number => {
  const key = "original_max_position_embeddings"
  return config.json[key] == null ? parameters.integer(key, fallback) : config.integer(key)
}

/**
 * The longest sequence that a config is for unless one asks for more: `max_position_embeddings`, but the original length
 * of a LongRoPE model, whose frequencies are others beyond it.
 */
export const defaultContextLength = (config: ConfigReader, maxPositionEmbeddings: number): number => {
  const parameters = ropeParameters(config)
  return parameters !== undefined && typeOf(parameters) === "longrope"
    ? originalLength(config, parameters, maxPositionEmbeddings)
    : maxPositionEmbeddings
}

/**
 * The frequencies that transformers computes (`modeling_rope_utils.py`), rounded to f32 where it rounds.
 *
 * "dynamic" and "longrope" make them depend on the length of the sequence, which would turn what was sampled at one
 * length into something else at the next. Here they are those of a sequence of `contextLength`, for all.
 *
 * @param theta the base, where `parameters` does not say
 * @throws ModelError for an unknown type or a missing or invalid field
 */
export const readRope = (
  config: ConfigReader,
  parameters: ConfigReader | undefined,
  { rotaryDim, maxPositionEmbeddings, contextLength }: RopeShape,
  theta: number,
): RopeConfig => {
  if (rotaryDim === 0 || rotaryDim % 2 !== 0) {
    const problem = `rotary embedding of ${rotaryDim} dimensions of each head is not supported, only of an even number`
    throw new ModelError("unsupported", config.file, problem)
  }
  if (parameters === undefined) return { frequencies: plain(theta, rotaryDim), scale: 1 }
  const base = parameters.number("rope_theta", theta)
  const original = () => originalLength(config, parameters, maxPositionEmbeddings)
  const type = typeOf(parameters)
  switch (type) {
    case "default":
      return { frequencies: plain(base, rotaryDim), scale: 1 }
    case "linear": {
      const factor = parameters.number("factor")
      return { frequencies: plain(base, rotaryDim).map((frequency) => frequency / factor), scale: 1 }
    }
    case "dynamic": {
      // NTK-aware scaling by u/bloc97 and u/emozilla.
      const factor = parameters.number("factor")
      const stretch = (factor * Math.max(contextLength, maxPositionEmbeddings)) / maxPositionEmbeddings - (factor - 1)
      return { frequencies: plain(base * stretch ** (rotaryDim / (rotaryDim - 2)), rotaryDim), scale: 1 }
    }
    case "llama3":
      return { frequencies: llama3(plain(base, rotaryDim), parameters, original()), scale: 1 }
    case "yarn":
      return yarn(base, rotaryDim, parameters, original())
    case "longrope":
      return longrope(base, rotaryDim, parameters, { original: original(), maxPositionEmbeddings, contextLength })
    default:
      return type satisfies never
  }
}

const { fround } = Math

/** theta^(2i / rotaryDim), f32. */
const wavelengths = (theta: number, rotaryDim: number): Float32Array =>
  Float32Array.from({ length: rotaryDim / 2 }, (_, i) => theta ** fround((2 * i) / rotaryDim))

const plain = (theta: number, rotaryDim: number): Float32Array => wavelengths(theta, rotaryDim).map((wave) => 1 / wave)

/** Llama 3.1: long waves are stretched by a factor, short ones kept, those between mixed. */
const llama3 = (frequencies: Float32Array, parameters: ConfigReader, original: number): Float32Array => {
  const factor = parameters.number("factor")
  const low = parameters.number("low_freq_factor")
  const high = parameters.number("high_freq_factor")
  return frequencies.map((frequency) => {
    const wavelength = (2 * Math.PI) / frequency
    if (wavelength > original / low) return frequency / factor
    if (wavelength < original / high) return frequency
    const smooth = (original / wavelength - low) / (high - low)
    return ((1 - smooth) * frequency) / factor + smooth * frequency
  })
}

/** B. Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models" (2023). */
const yarn = (theta: number, rotaryDim: number, parameters: ConfigReader, original: number): RopeConfig => {
  const factor = parameters.number("factor")
  /** Index of the frequency that turns so many times over the original length. */
  const indexOf = (rotations: number) =>
    (rotaryDim * Math.log(original / (rotations * 2 * Math.PI))) / (2 * Math.log(theta))
  const truncate = parameters.boolean("truncate", true)
  const fast = indexOf(parameters.number("beta_fast", 32))
  const slow = indexOf(parameters.number("beta_slow", 1))
  const low = Math.max(truncate ? Math.floor(fast) : fast, 0)
  const high = Math.min(truncate ? Math.ceil(slow) : slow, rotaryDim - 1)
  const frequencies = wavelengths(theta, rotaryDim).map((wave, i) => {
    const ramp = Math.min(1, Math.max(0, (i - low) / (high === low ? 0.001 : high - low)))
    return ramp / (factor * wave) + (1 - ramp) / wave
  })
  const sharpened = (weight: number) => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1)
  const mscale = parameters.optional("mscale")
  const mscaleAllDim = parameters.optional("mscale_all_dim")
  const inferred =
    mscale !== undefined && mscaleAllDim !== undefined ? sharpened(mscale) / sharpened(mscaleAllDim) : sharpened(1)
  return { frequencies, scale: parameters.number("attention_factor", inferred) }
}

/** Y. Ding et al., "LongRoPE" (2024): each wave has a factor of its own, another for long sequences. */
const longrope = (
  theta: number,
  rotaryDim: number,
  parameters: ConfigReader,
  lengths: { readonly original: number; readonly maxPositionEmbeddings: number; readonly contextLength: number },
): RopeConfig => {
  const key = lengths.contextLength > lengths.original ? "long_factor" : "short_factor"
  const factors = parameters.numbers(key)
  if (factors.length !== rotaryDim / 2) throw parameters.unsupported(key, `a list of ${rotaryDim / 2} numbers`)
  const frequencies = wavelengths(theta, rotaryDim).map((wave, i) => 1 / fround(fround(factors[i]!) * wave))
  const factor = parameters.number("factor", lengths.maxPositionEmbeddings / lengths.original)
  const inferred = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(lengths.original))
  return { frequencies, scale: parameters.number("attention_factor", inferred) }
}
