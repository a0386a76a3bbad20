import type { ParameterPart, ParameterSpec } from "../parameters.ts"

/** A linear layer of the checkpoint: all of a projection of the decoder, or rows of a fused one. */
export interface LinearModule {
  /** As the checkpoint calls it: `model.layers.0.self_attn.q_proj`. */
  readonly name: string
  /** The decoder's projection: `layers.0.self_attn.qkv_proj`. */
  readonly projection: string
  /** Rows of the projection's weight. */
  readonly begin: number
  readonly end: number
  /** Rows of that weight in all, and its columns. */
  readonly height: number
  readonly width: number
}

const weight = ".weight"
const moduleOf = (name: string): string => name.slice(0, -weight.length)

/** Every linear layer inside of the decoder's layers, in their order. */
export const linearModules = (specs: ReadonlyArray<ParameterSpec>): ReadonlyArray<LinearModule> =>
  specs.flatMap(({ name: parameter, shape, parts }) => {
    if (!parameter.startsWith("layers.") || !parameter.endsWith(weight) || shape.length !== 2) return []
    const [height, width] = shape as [number, number]
    let begin = 0
    return parts.map((part) => {
      const end = begin + rowsOf(part)
      const module = { name: moduleOf(part.name), projection: moduleOf(parameter), begin, end, height, width }
      begin = end
      return module
    })
  })

const rowsOf = ({ shape, transposed }: ParameterPart): number => shape[transposed ? 1 : 0]!

/**
 * The modules that `targets` names, by PEFT's rules.
 *
 * @throws RangeError for a name or expression that no module has, listing those that there are
 */
export const selectModules = (
  modules: ReadonlyArray<LinearModule>,
  targets: string | ReadonlyArray<string>,
): ReadonlyArray<LinearModule> => {
  if (targets === "all-linear") return modules
  const tests = typeof targets === "string" ? [expression(targets)] : targets.map(ending)
  const unknown = tests.find(({ matches }) => !modules.some(({ name }) => matches(name)))
  if (unknown !== undefined || tests.length === 0) {
    const there = [...new Set(modules.map(({ name }) => lastOf(name)))].join(", ")
    const what = unknown === undefined ? "names no module" : `no linear layer is called ${unknown.shown}`
    throw new RangeError(`lora: targetModules: ${what}; there are ${there}, or "all-linear" for all`)
  }
  return modules.filter(({ name }) => tests.some(({ matches }) => matches(name)))
}

interface Test {
  readonly shown: string
  readonly matches: (name: string) => boolean
}

const expression = (source: string): Test => {
  const whole = new RegExp(`^(?:${source})$`)
  return { shown: `/${source}/`, matches: (name) => whole.test(name) }
}

const ending = (end: string): Test => ({
  shown: JSON.stringify(end),
  matches: (name) => name === end || name.endsWith(`.${end}`),
})

/** The last part of a module's name: `q_proj`. */
export const lastOf = (name: string): string => name.slice(name.lastIndexOf(".") + 1)
