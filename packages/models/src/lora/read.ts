import { readSafetensors, safetensorsToFloat32, type SafetensorsTensor } from "@rlpt/tensor"
import { ConfigReader } from "../config-reader.ts"
import { ModelError } from "../errors.ts"
import { directorySource, memorySource, readJson, type ModelFiles } from "../files.ts"
import { checkFinite, checkShape } from "../weights.ts"
import type { ParameterPart } from "../parameters.ts"
import type { LoraOptions } from "./options.ts"

export const ADAPTER_CONFIG = "adapter_config.json"
export const ADAPTER_WEIGHTS = "adapter_model.safetensors"

/** An adapter as PEFT stores it. */
export interface StoredAdapter {
  readonly options: LoraOptions
  /**
   * The values of these tensors, which must be all.
   *
   * @throws ModelError for a tensor that is missing, left over, of another shape or not finite
   */
  readonly read: (parts: ReadonlyArray<ParameterPart>) => ReadonlyArray<Float32Array<ArrayBuffer>>
}

/** Options of PEFT that change what an adapter computes, with the values that leave it alone. */
const unused: Readonly<Record<string, ReadonlyArray<unknown>>> = {
  peft_type: ["LORA"],
  bias: ["none"],
  lora_bias: [false],
  rank_pattern: [{}],
  alpha_pattern: [{}],
  layers_to_transform: [null],
  exclude_modules: [null],
  target_parameters: [null],
  trainable_token_indices: [null],
  layer_replication: [null],
  use_qalora: [false],
  alora_invocation_tokens: [null],
}

/**
 * Opens the directory of a PEFT adapter, or the files of one.
 *
 * @throws ModelError naming the file and what it holds that is not supported
 */
export const readAdapter = async (source: string | ModelFiles): Promise<StoredAdapter> => {
  const files = typeof source === "string" ? await directorySource(source) : memorySource(source)
  const json = await readJson(files, ADAPTER_CONFIG)
  const config = new ConfigReader(json, files.path(ADAPTER_CONFIG))
  for (const [key, [allowed]] of Object.entries(unused)) {
    const value = json[key] ?? allowed
    if (JSON.stringify(value) !== JSON.stringify(allowed)) throw config.unsupported(key, JSON.stringify(allowed))
  }
  const path = files.path(ADAPTER_WEIGHTS)
  const { tensors } = readSafetensors(await files.read(ADAPTER_WEIGHTS), path)
  return {
    options: {
      r: config.integer("r"),
      alpha: config.number("lora_alpha"),
      dropout: json["lora_dropout"] === 0 ? 0 : config.number("lora_dropout", 0),
      targetModules: targetsOf(config),
      useRslora: config.boolean("use_rslora", false),
      useDora: config.boolean("use_dora", false),
    },
    read: (parts) => {
      const values = parts.map((part) => {
        const tensor = tensors.get(part.name)
        if (!tensor) throw new ModelError("missing-tensor", path, `tensor "${part.name}" is missing`)
        checkShape(part, tensor.shape, path)
        const floats = floatsOf(tensor, part.name, path)
        checkFinite(floats, part.name, path)
        return floats
      })
      const known = new Set(parts.map(({ name }) => name))
      const left = [...tensors.keys()].find((name) => !known.has(name))
      if (left === undefined) return values
      throw new ModelError(
        "unexpected-tensor",
        path,
        `tensor "${left}" belongs to no module that ${ADAPTER_CONFIG} names`,
      )
    },
  }
}

const floatsOf = (tensor: SafetensorsTensor, name: string, path: string): Float32Array<ArrayBuffer> => {
  if (["F32", "F16", "BF16"].includes(tensor.dtype)) return Float32Array.from(safetensorsToFloat32(tensor))
  throw new ModelError("wrong-dtype", path, `tensor "${name}" is ${tensor.dtype}; adapters must be F32, F16 or BF16`)
}

const targetsOf = (config: ConfigReader): string | ReadonlyArray<string> => {
  const targets = config.json["target_modules"]
  if (typeof targets === "string") return targets
  if (Array.isArray(targets) && targets.every((name) => typeof name === "string")) return targets
  throw config.unsupported("target_modules", "a text or a list of texts")
}
