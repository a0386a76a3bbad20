import { safetensorsFromFloat32, writeSafetensors, type SafetensorsTensor } from "@rlpt/tensor"
import { familyOf } from "../config.ts"
import { ModelError } from "../errors.ts"
import type { ModelFiles } from "../files.ts"
import type { Model } from "../load.ts"
import { adapterParameters, type LoraAdapter } from "./adapter.ts"
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS } from "./read.ts"
import { lastOf, linearModules, selectModules } from "./targets.ts"

export interface ExportAdapterOptions {
  /** What people load the adapter onto: a path or the id of a model. */
  readonly baseModel?: string | undefined
}

/**
 * The model's adapter as the files of a directory that PEFT and vLLM load: `adapter_config.json` and
 * `adapter_model.safetensors`, F32. A head for values goes along.
 *
 * @throws TypeError if the model has no adapter
 * @throws ModelError if a weight is not finite
 */
export const exportAdapter = async (model: Model, { baseModel }: ExportAdapterOptions = {}): Promise<ModelFiles> => {
  const { decoder, parameters } = model
  const { adapter, specs } = decoder
  if (!adapter) throw new TypeError("the model has no adapter that could be written")
  const tensors = new Map<string, SafetensorsTensor>()
  for (const { name, part } of adapterParameters(adapter, specs)) {
    const tensor = parameters[name]!
    const values = (await tensor.data()) as Float32Array
    if (!values.every(Number.isFinite)) {
      throw new ModelError("not-finite", ADAPTER_WEIGHTS, `tensor "${part.name}" holds NaN or infinity; not written`)
    }
    tensors.set(part.name, safetensorsFromFloat32(values, tensor.shape, "F32"))
  }
  const config = { base_model_name_or_path: baseModel ?? null, ...configOf(model, adapter) }
  return {
    [ADAPTER_CONFIG]: new TextEncoder().encode(`${JSON.stringify(config, null, 2)}\n`),
    [ADAPTER_WEIGHTS]: writeSafetensors(tensors, { format: "pt" }),
  }
}

const TASKS = { lm: "CAUSAL_LM", value: "TOKEN_CLS", reward: "SEQ_CLS" } as const

const configOf = ({ config, decoder: { kind, specs } }: Model, { options, modules }: LoraAdapter): object => {
  const { modules: names, transposed } = familyOf(config)
  const adapted = [...modules.values()].flat().map(({ name }) => name)
  // The short names, where they mean these modules and no others. An expression could find more in transformers.
  const short = [...new Set(adapted.map(lastOf))]
  const isExact = selectModules(linearModules(specs), short).length === adapted.length
  return {
    peft_type: "LORA",
    task_type: TASKS[kind],
    inference_mode: true,
    r: options.r,
    lora_alpha: options.alpha,
    lora_dropout: options.dropout,
    target_modules: isExact ? short : adapted,
    use_rslora: options.useRslora,
    use_dora: options.useDora,
    bias: "none",
    // Conv1D of GPT-2 holds its weights the other way round.
    fan_in_fan_out: transposed.length > 0,
    modules_to_save: kind === "lm" ? null : names[kind],
  }
}
