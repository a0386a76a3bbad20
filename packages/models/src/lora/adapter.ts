import { isValueHead, type ParameterPart, type ParameterSpec } from "../parameters.ts"
import { resolveLora, type LoraOptions, type ResolvedLora } from "./options.ts"
import { linearModules, selectModules, type LinearModule } from "./targets.ts"

/** An adapted module and what its parameters are called. */
export interface LoraModule extends LinearModule {
  /** f32 [r, width]. */
  readonly a: string
  /** f32 [end − begin, r]. */
  readonly b: string
  /** f32 [end − begin]; DoRA only. */
  readonly magnitude: string
}

/**
 * Which modules are adapted, and how. The adapter's parameters lie beside the decoder's under names of their own; where
 * they are left out, the decoder computes what it does without an adapter.
 */
export interface LoraAdapter {
  readonly options: ResolvedLora
  /** Adapted modules by the decoder's projection. */
  readonly modules: ReadonlyMap<string, ReadonlyArray<LoraModule>>
  /** The adapter's parameters. Their parts are named as PEFT names them in a file. */
  readonly specs: ReadonlyArray<ParameterSpec>
}

/** What PEFT puts before the names of a model's modules. */
const peftPrefix = "base_model.model."

/**
 * The adapter that `options` describe for a decoder with the parameters `specs`. A starts uniform in ±1/√width, as
 * PEFT's Kaiming initialisation with a = √5 does, B at zero: a new adapter changes nothing.
 *
 * @throws RangeError naming the option
 */
export const loraAdapter = (specs: ReadonlyArray<ParameterSpec>, options: LoraOptions): LoraAdapter => {
  const resolved = resolveLora(options)
  const { r, useDora } = resolved
  const modules = new Map<string, LoraModule[]>()
  const own: ParameterSpec[] = []
  for (const module of selectModules(linearModules(specs), resolved.targetModules)) {
    const { name, projection, begin, end, width } = module
    const add = (
      suffix: string,
      file: string,
      shape: ReadonlyArray<number>,
      initializer: ParameterSpec["initializer"],
    ) => {
      const parts = [{ name: `${peftPrefix}${name}.${file}`, shape }]
      own.push({ name: `${name}.${suffix}`, shape, parts, initializer })
      return `${name}.${suffix}`
    }
    const a = add("lora_A.weight", "lora_A.weight", [r, width], { kind: "uniform", bound: 1 / Math.sqrt(width) })
    const b = add("lora_B.weight", "lora_B.weight", [end - begin, r], { kind: "constant", value: 0 })
    const magnitude = "lora_magnitude_vector"
    if (useDora) add(magnitude, magnitude, [end - begin], { kind: "constant", value: 1 })
    modules.set(projection, [
      ...(modules.get(projection) ?? []),
      { ...module, a, b, magnitude: `${name}.${magnitude}` },
    ])
  }
  return { options: resolved, modules, specs: own }
}

/** What is trained with an adapter and stored in its file: its own parameters, and the head if that is none for tokens. */
export const adapterParameters = (
  { specs: own }: LoraAdapter,
  specs: ReadonlyArray<ParameterSpec>,
): ReadonlyArray<{ readonly name: string; readonly part: ParameterPart }> => [
  ...own.map(({ name, parts }) => ({ name, part: parts[0]! })),
  ...specs.flatMap(({ name, parts: [part] }) =>
    isValueHead(name) ? [{ name, part: { ...part!, name: `${peftPrefix}${part!.name}` } }] : [],
  ),
]
