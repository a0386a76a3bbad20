import { safetensorsFromFloat32, writeSafetensors, type SafetensorsTensor } from "@rlpt/tensor"
import { familyOf } from "./config.ts"
import { ModelError } from "./errors.ts"
import type { ModelFiles } from "./files.ts"
import type { Model } from "./load.ts"
import { mergedParameter } from "./lora/merge.ts"
import { sizeOf, type Parameters } from "./parameters.ts"
import { transpose } from "./transpose.ts"

export interface ExportOptions {
  /** The weights to write, if not the model's own: an average or a best step. */
  readonly parameters?: Parameters
  /** Element type of the file. F32 loses nothing; F16 and BF16 round to nearest. */
  readonly dtype?: "F32" | "F16" | "BF16"
}

const TORCH_DTYPES = { F32: "float32", F16: "float16", BF16: "bfloat16" } as const

/**
 * The model as files of a Hugging Face directory that transformers and vLLM load: `config.json` as it was read (but for
 * the dtype), `model.safetensors`, `generation_config.json` and the tokenizer's files. An adapter is merged into the
 * weights.
 *
 * @throws ModelError if a weight is not finite: a broken model is never written
 */
export const exportModel = async (model: Model, options: ExportOptions = {}): Promise<ModelFiles> => {
  const { parameters = model.parameters, dtype = "F32" } = options
  const tensors = new Map<string, SafetensorsTensor>()
  for (const spec of model.decoder.specs) {
    const tensor = mergedParameter(model.decoder, parameters, spec.name)
    const values = (await tensor.data()) as Float32Array
    if (tensor !== parameters[spec.name]) tensor.dispose()
    let offset = 0
    for (const { name, shape, transposed } of spec.parts) {
      const size = sizeOf(shape)
      const stored = values.subarray(offset, offset + size)
      const part = transposed ? transpose(stored, shape[1]!, shape[0]!) : stored
      if (!part.every(Number.isFinite)) {
        throw new ModelError("not-finite", "model.safetensors", `tensor "${name}" holds NaN or infinity; not written`)
      }
      tensors.set(name, safetensorsFromFloat32(part, shape, dtype))
      offset += size
    }
  }
  return {
    "generation_config.json": json(generationConfig(model)),
    ...model.extraFiles,
    "config.json": json(configJson(model, dtype)),
    // transformers refuses a file that does not say which framework wrote it.
    "model.safetensors": writeSafetensors(tensors, { format: "pt" }),
  }
}

/** Fields that are floats to transformers, which refuses or warns of an integer there: JavaScript writes 30.0 as 30. */
const FLOATS = [
  "initializer_range",
  "final_logit_softcapping",
  "attn_logit_softcapping",
  "partial_rotary_factor",
  "rope_theta",
  "rope_local_base_freq",
  "factor",
  "low_freq_factor",
  "high_freq_factor",
  "attention_factor",
  "beta_fast",
  "beta_slow",
  "mscale",
  "mscale_all_dim",
]
const integerForFloat = new RegExp(`^( *"(?:${FLOATS.join("|")})": \\d+)(?=,?$)`, "gm")

const json = (value: unknown): Uint8Array =>
  new TextEncoder().encode(`${JSON.stringify(value, null, 2).replace(integerForFloat, "$1.0")}\n`)

const configJson = ({ configJson, config, decoder }: Model, dtype: keyof typeof TORCH_DTYPES): unknown => {
  const { kind } = decoder
  return {
    ...configJson,
    architectures: [familyOf(config).architectures[kind]],
    // transformers 5 calls it `dtype`; both versions read `torch_dtype`.
    [Object.hasOwn(configJson, "dtype") ? "dtype" : "torch_dtype"]: TORCH_DTYPES[dtype],
    ...(kind === "value" && { id2label: { "0": "value" }, label2id: { value: 0 } }),
  }
}

const generationConfig = ({ config: { bosTokenId, eosTokenIds } }: Model): unknown => ({
  ...(bosTokenId !== null && { bos_token_id: bosTokenId }),
  ...(eosTokenIds.length > 0 && { eos_token_id: eosTokenIds.length === 1 ? eosTokenIds[0] : eosTokenIds }),
})
