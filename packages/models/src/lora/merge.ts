import type { Gpu, Tensor } from "@rlpt/tensor"
import type { Decoder } from "../decoder.ts"
import type { Model } from "../load.ts"
import type { Parameters } from "../parameters.ts"
import { activeModules, adaptedWeight } from "./linear.ts"

/** Names of the weights that the model's adapter changes. */
const adaptedNames = ({ adapter }: Decoder): ReadonlySet<string> =>
  new Set([...(adapter?.modules.keys() ?? [])].map((projection) => `${projection}.weight`))

/**
 * Parameter `name` of the decoder with the adapter worked in: the parameter itself where no adapter acts on it, else a
 * tensor of its own that the caller disposes of.
 */
export const mergedParameter = ({ adapter }: Decoder, parameters: Parameters, name: string): Tensor => {
  const weight = parameters[name]!
  const modules = activeModules(adapter, name.slice(0, -".weight".length), parameters)
  return adapter && modules.length > 0 && name.endsWith(".weight")
    ? adaptedWeight(weight, modules, adapter.options, parameters)
    : weight
}

/**
 * The model without its adapter: the decoder of `model` over its base weights, shared and not copied. It is what the
 * model was before training; disposing of it frees nothing.
 */
export const withoutAdapter = (model: Model): Model => {
  const { decoder, parameters } = model
  const base = Object.fromEntries(decoder.specs.map(({ name }) => [name, parameters[name]!]))
  return { ...model, parameters: base, trainable: [], dispose: () => {} }
}

/**
 * The model as it is now, with its adapter: the base weights are shared, the adapter is copied. It stays what it is while
 * `model` is trained; disposing of it frees the copy.
 */
export const frozenCopy = async (gpu: Gpu, model: Model): Promise<Model> => {
  const base = withoutAdapter(model).parameters
  const own: Record<string, Tensor> = {}
  for (const [name, tensor] of Object.entries(model.parameters)) {
    if (name in base) continue
    own[name] = gpu.tensor((await tensor.data()) as Float32Array<ArrayBuffer>, tensor.shape, "parameters")
  }
  return {
    ...model,
    parameters: { ...base, ...own },
    trainable: [],
    dispose: () => {
      for (const tensor of Object.values(own)) tensor.dispose()
    },
  }
}

/**
 * The model with its adapter worked into the weights, which then cost nothing at inference. Weights that the adapter
 * leaves alone are shared with `model`, which stays as it is: to unmerge is to dispose of the merged one, and exact.
 */
export const mergeAdapter = (model: Model): Model => {
  const { decoder, parameters } = model
  const adapted = adaptedNames(decoder)
  const merged = Object.fromEntries(
    decoder.specs.map(({ name }) => [name, mergedParameter(decoder, parameters, name)] as const),
  )
  const own = [...adapted].map((name) => merged[name]!)
  own[0]?.gpu.realize(own)
  return {
    ...model,
    parameters: merged,
    trainable: [],
    dispose: () => {
      for (const tensor of own) tensor.dispose()
    },
  }
}
