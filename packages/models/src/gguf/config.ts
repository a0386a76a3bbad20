import { ModelError, unsupportedArchitecture } from "../errors.ts"
import { architectures, type Architecture } from "./architectures.ts"
import type { Metadata } from "./metadata.ts"
import type { GgufTensor } from "./reader.ts"
import type { RopeFactors } from "./weights.ts"

export const architectureOf = (metadata: Metadata, file: string): Architecture => {
  const name = metadata.required("general.architecture", metadata.string("general.architecture"))
  const known = Object.hasOwn(architectures, name) ? architectures[name] : undefined
  if (known !== undefined) return known
  throw unsupportedArchitecture(name, Object.keys(architectures), file)
}

/** What a model's `config.json` and `generation_config.json` say, from GGUF metadata. */
export const configFromGguf = (
  metadata: Metadata,
  tensors: ReadonlyMap<string, GgufTensor>,
  ropeFactors: RopeFactors,
  file: string,
): { readonly config: Record<string, unknown>; readonly generation: Record<string, unknown> } => {
  const architecture = architectureOf(metadata, file)
  const prefix = metadata.string("general.architecture")!
  const embedding = metadata.required("token_embd.weight", tensors.get("token_embd.weight"))
  const stored: Record<string, unknown> = {}
  for (const [key, candidates] of Object.entries(architecture.keys)) {
    const value = candidates.map((name) => metadata.value(`${prefix}.${name}`)).find((value) => value !== undefined)
    if (value !== undefined) stored[key] = typeof value === "number" ? shortest(value) : value
  }
  // Phi and Gemma 3 write a window of zero for none.
  if (stored["sliding_window"] === 0) stored["sliding_window"] = null

  const bos = metadata.number("tokenizer.ggml.bos_token_id")
  const eos = [metadata.number("tokenizer.ggml.eos_token_id"), metadata.number("tokenizer.ggml.eot_token_id")]
  const ids = [...new Set(eos.filter((id) => id !== undefined))]
  const special = {
    bos_token_id: bos ?? null,
    eos_token_id: ids.length === 0 ? null : ids.length === 1 ? ids[0] : ids,
  }
  const scaling = ropeScaling(metadata, prefix, stored, ropeFactors, file)
  const config = {
    architectures: [architecture.className],
    model_type: architecture.modelType,
    ...architecture.fixed,
    ...stored,
    ...(scaling && { rope_scaling: scaling }),
    ...partialRotary(metadata.number(`${prefix}.rope.dimension_count`), stored),
    vocab_size: embedding.shape[0],
    // A head of its own is stored; a tied one is not.
    tie_word_embeddings: !tensors.has("output.weight"),
    ...(tensors.has("blk.0.attn_q.bias") && architecture.modelType !== "qwen2" && { attention_bias: true }),
    torch_dtype: "float32",
    ...special,
  }
  return { config, generation: special }
}

/** Phi turns a part of each head only. */
const partialRotary = (rotary: number | undefined, config: Readonly<Record<string, unknown>>) => {
  const headDim = Number(config["head_dim"] ?? Number(config["hidden_size"]) / Number(config["num_attention_heads"]))
  return rotary !== undefined && rotary < headDim ? { partial_rotary_factor: rotary / headDim } : {}
}

/** The shortest decimal that is the same float32: 1e-6 is stored as 9.999999974752427e-7. */
const shortest = (value: number): number => {
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits))
    if (Math.fround(short) === value) return short
  }
  return value
}

const ropeScaling = (
  metadata: Metadata,
  prefix: string,
  config: Readonly<Record<string, unknown>>,
  factors: RopeFactors,
  file: string,
): Record<string, unknown> | undefined => {
  const {
    "rope_freqs.weight": divisors,
    "rope_factors_long.weight": long,
    "rope_factors_short.weight": short,
  } = factors
  if (divisors !== undefined) return llama3Scaling(config, divisors, file)
  if (long !== undefined && short !== undefined) {
    return { rope_type: "longrope", long_factor: long.map(shortest), short_factor: short.map(shortest) }
  }
  const type = metadata.string(`${prefix}.rope.scaling.type`) ?? "none"
  if (type === "none") return undefined
  const factor = metadata.number(`${prefix}.rope.scaling.factor`)
  const original = metadata.number(`${prefix}.rope.scaling.original_context_length`)
  return {
    rope_type: type,
    ...(factor !== undefined && { factor }),
    ...(original !== undefined && { original_max_position_embeddings: original }),
  }
}

/**
 * Llama 3's scaling is stored as one divisor per frequency (`rope_freqs.weight`). Its parameters are those that every
 * published model uses; that they give the stored divisors is checked.
 */
const llama3Scaling = (
  config: Readonly<Record<string, unknown>>,
  factors: ReadonlyArray<number>,
  file: string,
): Record<string, unknown> | undefined => {
  const factor = factors.reduce((a, b) => Math.max(a, b), 1)
  if (factor === 1) return undefined
  const theta = typeof config["rope_theta"] === "number" ? config["rope_theta"] : 10_000
  const [low, high, context] = [1, 4, 8192]
  const matches = factors.every((stored, i) => {
    const wavelength = 2 * Math.PI * theta ** (i / factors.length)
    const smooth = (context / wavelength - low) / (high - low)
    const expected = smooth > 1 ? 1 : smooth < 0 ? factor : 1 / ((1 - smooth) / factor + smooth)
    return Math.abs(stored - expected) < 1e-3 * expected
  })
  if (!matches) {
    throw new ModelError(
      "unsupported",
      file,
      `"rope_freqs.weight" is not Llama 3's RoPE scaling by ${factor} from ${context}`,
    )
  }
  return {
    rope_type: "llama3",
    factor,
    low_freq_factor: low,
    high_freq_factor: high,
    original_max_position_embeddings: context,
  }
}
