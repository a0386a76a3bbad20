import type { Decoder } from "./decoder.ts"
import { adapterParameters } from "./lora/adapter.ts"
import type { ParameterSpec } from "./parameters.ts"

/**
 * Which parameters are trained: all of them; those whose name in the checkpoint a regular expression finds (or one of
 * several); or those of a range of layers, both ends included and counted from the end if negative.
 */
export type Trainable = string | ReadonlyArray<string> | { readonly layers: readonly [first: number, last: number] }

/**
 * Names of the decoder's parameters that `trainable` selects, in the decoder's order. An adapter is trained as a whole,
 * with the head if that is none for tokens; there is nothing to select then.
 *
 * @throws RangeError for a selection that is empty, or takes part of what the decoder holds as one parameter
 */
export const trainableNames = (
  { specs, adapter, config }: Pick<Decoder, "specs" | "adapter" | "config">,
  trainable: Trainable = "all",
): ReadonlyArray<string> => {
  if (adapter) {
    if (trainable !== "all")
      throw new RangeError("trainable: with lora the adapter alone is trained: leave one of them out")
    return adapterParameters(adapter, specs).map(({ name }) => name)
  }
  if (trainable === "all") return specs.map(({ name }) => name)
  if (typeof trainable === "object" && "layers" in trainable) {
    const [first, last] = trainable.layers.map((layer) => (layer < 0 ? layer + config.numHiddenLayers : layer))
    if (!(0 <= first! && first! <= last! && last! < config.numHiddenLayers)) {
      const problem = `[${trainable.layers.join(", ")}] is no range of the model's ${config.numHiddenLayers} layers`
      throw new RangeError(`trainable: layers: ${problem} (0 is the first, -1 the last)`)
    }
    return specs.flatMap(({ name }) => {
      const layer = Number(/^layers\.(\d+)\./.exec(name)?.[1] ?? Number.NaN)
      return layer >= first! && layer <= last! ? [name] : []
    })
  }
  return matching(specs, typeof trainable === "string" ? [trainable] : trainable)
}

const matching = (specs: ReadonlyArray<ParameterSpec>, sources: ReadonlyArray<string>): ReadonlyArray<string> => {
  const patterns = sources.map((source) => new RegExp(source))
  const unused = patterns.find((pattern) => !specs.some(({ parts }) => parts.some(({ name }) => pattern.test(name))))
  if (unused || patterns.length === 0) {
    const examples = specs.slice(1, 3).flatMap(({ parts }) => parts.map(({ name }) => name))
    const what = unused ? `no parameter's name has ${unused}` : "selects nothing"
    throw new RangeError(`trainable: ${what}; names are those of the checkpoint, such as ${examples.join(", ")}`)
  }
  return specs.flatMap(({ name, parts }) => {
    const chosen = parts.filter((part) => patterns.some((pattern) => pattern.test(part.name)))
    if (chosen.length > 0 && chosen.length < parts.length) {
      const all = parts.map((part) => part.name).join(", ")
      throw new RangeError(`trainable: ${all} are one parameter here: select all of them or none`)
    }
    return chosen.length > 0 ? [name] : []
  })
}
