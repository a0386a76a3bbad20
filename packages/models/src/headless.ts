import type { ParameterPart } from "./parameters.ts"
import type { Weights } from "./weights.ts"

/**
 * `weights` under the names that they have in a model with a head. A checkpoint of the headless model, as GPT-2 was
 * published, leaves out the `prefix` of all names.
 */
export const withPrefix = (weights: Weights, prefix: string): Weights => {
  const names = [...weights.names]
  if (names.some((name) => name.startsWith(prefix))) return weights
  const bare = (name: string) => (name.startsWith(prefix) ? name.slice(prefix.length) : name)
  const renamed = (part: ParameterPart): ParameterPart => ({ ...part, name: bare(part.name) })
  return {
    listing: weights.listing,
    names: names.map((name) => `${prefix}${name}`),
    has: (name) => weights.has(bare(name)),
    read: (part) => weights.read(renamed(part)),
    storedAs: (part) => weights.storedAs(renamed(part)),
    readPacked: (part, dtype) => weights.readPacked(renamed(part), dtype),
    close: () => weights.close(),
  }
}
