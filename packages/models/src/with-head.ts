import type { Gpu, Tensor } from "@rlpt/tensor"
import { createDecoder } from "./decoder.ts"
import type { Head } from "./families/family.ts"
import { initialValues } from "./initialize.ts"
import { startAdapter, type Model } from "./load.ts"
import { loraAdapter } from "./lora/adapter.ts"
import type { LoraOptions } from "./lora/options.ts"
import { decoderParameters, isValueHead } from "./parameters.ts"
import { trainableNames } from "./trainable.ts"

/**
 * A critic or a reward model over the weights of `model`, shared and not copied: it trains a head of its own, which
 * starts at zero, and an adapter of its own. The adapter of `model` does not act in it. Disposing of it leaves `model` as
 * it is.
 */
export const withHead = async (
  gpu: Gpu,
  model: Model,
  { head, lora }: { readonly head: Exclude<Head, "lm">; readonly lora: LoraOptions },
): Promise<Model> => {
  const { config } = model
  const adapter = loraAdapter(decoderParameters(config, head), lora)
  const decoder = createDecoder(gpu, config, { head, adapter })
  const shared = new Set<string>()
  const parameters: Record<string, Tensor> = {}
  const dispose = () => {
    for (const [name, tensor] of Object.entries(parameters)) if (!shared.has(name)) tensor.dispose()
    decoder.dispose()
  }
  try {
    for (const spec of decoder.specs) {
      const { name, shape } = spec
      if (!isValueHead(name)) shared.add(name)
      parameters[name] = isValueHead(name)
        ? gpu.tensor(initialValues(spec, 0), shape, "parameters")
        : model.parameters[name]!
    }
    await startAdapter(gpu, adapter, parameters)
  } catch (error) {
    dispose()
    throw error
  }
  return { ...model, decoder, parameters, trainable: trainableNames(decoder), dispose }
}
