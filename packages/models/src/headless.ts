import type { Head, ModuleNames } from "./families/family.ts"
import type { ParameterPart } from "./parameters.ts"
import type { Weights } from "./weights.ts"

/**
 * `weights` under the names that they have in a model with a head. A checkpoint of the headless model, as GPT-2 was
 * published, leaves out the `prefix` of all names.
 */
export const withPrefix = (weights: Weights, prefix: string): Weights => {
  if ([...weights.names].some((name) => name.startsWith(prefix))) return weights
  const bare = (name: string) => (name.startsWith(prefix) ? name.slice(prefix.length) : name)
  return renamed(weights, (name) => `${prefix}${name}`, bare)
}

/**
 * `weights` with the head of a reward model under the name of a critic's, which starts from it. Most families call both
 * the same.
 */
export const withHeadOf = (weights: Weights, head: Head, { reward, value }: ModuleNames): Weights => {
  const [from, to] = [`${reward[0]}.weight`, `${value[0]}.weight`]
  if (head !== "value" || from === to || !weights.has(from) || weights.has(to)) return weights
  const swap = (a: string, b: string) => (name: string) => (name === a ? b : name)
  return renamed(weights, swap(from, to), swap(to, from))
}

const renamed = (weights: Weights, shown: (stored: string) => string, stored: (shown: string) => string): Weights => {
  const part = (one: ParameterPart): ParameterPart => ({ ...one, name: stored(one.name) })
  return {
    listing: weights.listing,
    names: [...weights.names].map(shown),
    has: (name) => weights.has(stored(name)),
    read: (one) => weights.read(part(one)),
    storedAs: (one) => weights.storedAs(part(one)),
    readPacked: (one, dtype) => weights.readPacked(part(one), dtype),
    close: () => weights.close(),
  }
}
