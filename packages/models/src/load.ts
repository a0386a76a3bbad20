import { isQuantized, isRehearsal, type DType, type Gpu, type PackedType, type Tensor } from "@rlpt/tensor"
import { openCheckpoint, type Checkpoint } from "./checkpoint.ts"
import { familyOf, parseConfig, type ConfigOptions, type DecoderConfig } from "./config.ts"
import { createDecoder, type Decoder } from "./decoder.ts"
import { ModelError } from "./errors.ts"
import type { Head } from "./families/family.ts"
import { EXTRA_FILES, readJson, type ModelFiles } from "./files.ts"
import { withHeadOf, withPrefix } from "./headless.ts"
import type { HubOptions } from "./hub/options.ts"
import { resolveModel } from "./hub/resolve.ts"
import { initialValues } from "./initialize.ts"
import { adapterParameters, loraAdapter, type LoraAdapter } from "./lora/adapter.ts"
import { rowLengths } from "./lora/linear.ts"
import type { LoraOptions } from "./lora/options.ts"
import { readAdapter, type StoredAdapter } from "./lora/read.ts"
import {
  decoderParameters,
  isValueHead,
  sizeOf,
  type ParameterPart,
  type Parameters,
  type ParameterSpec,
} from "./parameters.ts"
import { fromBytes, fromFloats, storedDType, wantedDType, type WeightDType } from "./precision.ts"
import { loadTokenizer, type ModelTokenizer } from "./tokenizer/tokenizer.ts"
import { transpose } from "./transpose.ts"
import { joined, type Weights } from "./weights.ts"
import { trainableNames, type Trainable } from "./trainable.ts"

export interface LoadOptions extends ConfigOptions {
  /**
   * `value` makes a critic and `reward` a reward model: the base model with a head of that kind, which starts at zero
   * unless the checkpoint has one.
   */
  readonly head?: Head
  /** Ignores the weights and draws new ones; the directory then needs `config.json` only. */
  readonly fromScratch?: { readonly seed: number }
  /** Where models of the hub are kept, and how they are reached. */
  readonly hub?: HubOptions
  /** Puts a new adapter on the model. */
  readonly lora?: LoraOptions
  /** Puts an adapter on the model that PEFT or {@link exportAdapter} wrote: its directory, or the files of it. */
  readonly adapter?: string | ModelFiles
  /**
   * How weights are kept on the GPU. Default: frozen ones as they are stored, those of f16, bf16 and GGUF's quantised types
   * included, which costs no precision, and trained ones as float32. Norms, biases and adapters are always float32.
   */
  readonly dtype?: WeightDType
  /** Which parameters are trained. Default: the adapter's (and those of a head for values), or all without one. */
  readonly trainable?: Trainable
  /** The model is only sampled from and scored: none of it is trained. */
  readonly frozen?: boolean
}

/** A model on the GPU. */
export interface Model {
  readonly config: DecoderConfig
  readonly decoder: Decoder
  readonly parameters: Parameters
  /** Names of the parameters that are trained; the others stay as they were loaded. */
  readonly trainable: ReadonlyArray<string>
  /** Absent if the directory has no `tokenizer.json`. */
  readonly tokenizer: ModelTokenizer | undefined
  /** `config.json` as it was read. */
  readonly configJson: Readonly<Record<string, unknown>>
  /** Files that are handed through unchanged: the tokenizer's and `generation_config.json`. */
  readonly extraFiles: ModelFiles
  /** Frees the parameters and the decoder's tables. */
  readonly dispose: () => void
}

/**
 * Loads a model as transformers saves it: `config.json`, `model.safetensors` or its shards (F32, F16 or BF16), and the
 * tokenizer if there is one. Or a GGUF file as llama.cpp writes it. One parameter at a time is in the host's memory. For a
 * rehearsal no weights are read, at most how they are stored.
 *
 * @param source a directory, a .gguf file, the id of a model on the hub (see {@link resolveModel}), or files in memory
 * @throws ModelError | SafetensorsError naming the file and the key or tensor
 * @throws RangeError naming what of `lora`, `trainable` or `dtype` does not fit the model
 */
export const loadModel = async (gpu: Gpu, source: string | ModelFiles, options: LoadOptions = {}): Promise<Model> => {
  const { head = "lm", contextLength, numLabels, hub } = options
  const path = typeof source === "string" ? await resolveModel(source, hub) : source
  const { files, openWeights } = await openCheckpoint(path)
  const configJson = await readJson(files, "config.json")
  const config = parseConfig(configJson, files.path("config.json"), { contextLength, numLabels })
  const extraFiles: Record<string, Uint8Array> = {}
  for (const file of EXTRA_FILES) if (files.has(file)) extraFiles[file] = await files.read(file)
  const tokenizer = await loadTokenizer(files, config)

  const stored = options.adapter === undefined ? undefined : await readAdapter(options.adapter)
  const lora = stored?.options ?? options.lora
  const adapter = lora && loraAdapter(decoderParameters(config, head), lora)
  const decoder = createDecoder(gpu, config, { head, adapter })
  const trainable = options.frozen ? [] : trainableNames(decoder, options.trainable)
  const parameters: Record<string, Tensor> = {}
  const dispose = () => {
    for (const tensor of Object.values(parameters)) tensor.dispose()
    decoder.dispose()
  }
  try {
    await loadParameters(gpu, { openWeights, config, decoder, trainable, options }, parameters)
    if (adapter && stored) restoreAdapter(gpu, decoder, adapter, parameters, stored)
    else if (adapter) await startAdapter(gpu, adapter, parameters)
  } catch (error) {
    dispose()
    throw error
  }
  return { config, decoder, parameters, trainable, tokenizer, configJson, extraFiles, dispose }
}

/** Adds the parameters of a new adapter. */
export const startAdapter = async (
  gpu: Gpu,
  adapter: LoraAdapter,
  parameters: Record<string, Tensor>,
): Promise<void> => {
  const { options, modules, specs } = adapter
  for (const spec of specs) {
    parameters[spec.name] = gpu.tensor(initialValues(spec, options.seed), spec.shape, "parameters")
  }
  if (!options.useDora) return
  // A magnitude starts as the length that its row has.
  for (const [projection, adapted] of modules) {
    for (const { begin, end, magnitude } of adapted) {
      const lengths = rowLengths(parameters[`${projection}.weight`]!.slice([begin, end]))
      gpu.write(parameters[magnitude]!, await lengths.data())
      lengths.dispose()
    }
  }
}

/** Adds the parameters of a stored adapter, and puts those of a head that was stored with it in place. */
const restoreAdapter = (
  gpu: Gpu,
  { specs }: Decoder,
  adapter: LoraAdapter,
  parameters: Record<string, Tensor>,
  stored: StoredAdapter,
): void => {
  const places = adapterParameters(adapter, specs)
  const values = stored.read(places.map(({ part }) => part))
  for (const [i, { name, part }] of places.entries()) {
    parameters[name]?.dispose()
    parameters[name] = gpu.tensor(values[i]!, part.shape, "parameters")
  }
}

interface Source {
  readonly openWeights: Checkpoint["openWeights"]
  readonly config: DecoderConfig
  readonly decoder: Decoder
  readonly trainable: ReadonlyArray<string>
  readonly options: LoadOptions
}

/** Adds the decoder's parameters one by one. */
const loadParameters = async (
  gpu: Gpu,
  { openWeights, config, decoder, trainable, options }: Source,
  parameters: Record<string, Tensor>,
): Promise<void> => {
  const { fromScratch, dtype } = options
  const trained = new Set(trainable)
  const planned = decoder.specs.map((spec) => {
    const isTrained = trained.has(spec.name)
    return { spec, isTrained, wanted: wantedDType(spec, isTrained, dtype) }
  })
  if (fromScratch !== undefined || (isRehearsal(gpu) && planned.every(({ wanted }) => wanted !== "as stored"))) {
    for (const { spec, wanted } of planned) {
      const kept = wanted === "as stored" ? "f32" : wanted
      parameters[spec.name] = isRehearsal(gpu)
        ? gpu.empty(spec.shape, kept, "parameters")
        : fromFloats(gpu, initialValues(spec, fromScratch!.seed), spec, kept)
    }
    return
  }
  const { modules, prefix } = familyOf(config)
  const weights = withHeadOf(withPrefix(await openWeights(), prefix), decoder.kind, modules)
  try {
    checkNames(weights, config, decoder)
    for (const { spec, isTrained, wanted } of planned) {
      const kept = wanted === "as stored" ? storedDType(spec, isTrained, weights) : wanted
      parameters[spec.name] = isRehearsal(gpu)
        ? gpu.empty(spec.shape, kept, "parameters")
        : await readParameter(gpu, weights, spec, kept)
    }
    if (!isRehearsal(gpu)) await checkTiedHead(weights, config)
  } finally {
    await weights.close()
  }
}

/** Reads a parameter's parts and stacks them. */
const readParameter = async (gpu: Gpu, weights: Weights, spec: ParameterSpec, dtype: DType): Promise<Tensor> => {
  const isStored = (part: ParameterPart) => isQuantized(dtype) || weights.storedAs(part) === dtype
  if (dtype === "f32" || !spec.parts.every(isStored))
    return fromFloats(gpu, await readFloats(weights, spec), spec, dtype)
  const packed = dtype as PackedType
  const parts: Uint8Array<ArrayBuffer>[] = []
  for (const part of spec.parts) parts.push(await weights.readPacked(part, packed))
  return fromBytes(gpu, joined(parts), spec.shape, packed)
}

const readFloats = async (weights: Weights, spec: ParameterSpec): Promise<Float32Array<ArrayBuffer>> => {
  const [first, ...more] = spec.parts
  if (more.length === 0 && weights.has(first!.name)) return readPart(weights, first!)
  const values = new Float32Array(sizeOf(spec.shape))
  let offset = 0
  for (const part of spec.parts) {
    if (!weights.has(part.name) && isValueHead(spec.name)) continue
    const read = await readPart(weights, part)
    values.set(read, offset)
    offset += read.length
  }
  return values
}

const readPart = async (weights: Weights, part: ParameterPart): Promise<Float32Array<ArrayBuffer>> => {
  const values = await weights.read(part)
  return part.transposed ? transpose(values, part.shape[0]!, part.shape[1]!) : values
}

/** Every tensor has its place and every place its tensor, before the first one is read. */
const checkNames = (weights: Weights, config: DecoderConfig, { kind, specs }: Decoder): void => {
  const { modules, ignoredTensors } = familyOf(config)
  const expected = new Set(specs.flatMap((spec) => spec.parts.map((part) => part.name)))
  const required = specs.flatMap((spec) => (isValueHead(spec.name) ? [] : spec.parts.map((part) => part.name)))
  const missing = required.filter((name) => !weights.has(name))
  if (missing.length > 0) {
    throw new ModelError("missing-tensor", weights.listing, `${listed(missing)} missing, which config.json asks for`)
  }
  // A critic is loaded from a base model, and a tied head may be stored twice.
  const lmHead = `${modules.lm_head[0]}.weight`
  const allowed = (name: string) =>
    expected.has(name) || ignoredTensors.test(name) || (name === lmHead && (kind !== "lm" || config.tieWordEmbeddings))
  const unexpected = [...weights.names].filter((name) => !allowed(name))
  if (unexpected.length > 0) {
    const problem = `${listed(unexpected)} not part of a ${config.family} of this config.json`
    throw new ModelError("unexpected-tensor", weights.listing, problem)
  }
}

/** A checkpoint with tied embeddings that also stores the head must store the same numbers twice. */
const checkTiedHead = async (weights: Weights, config: DecoderConfig): Promise<void> => {
  const { modules } = familyOf(config)
  const name = `${modules.lm_head[0]}.weight`
  if (!config.tieWordEmbeddings || !weights.has(name)) return
  const shape = [config.vocabSize, config.hiddenSize]
  const embedding = `${modules.embed_tokens[0]}.weight`
  const table = await weights.read({ name: embedding, shape })
  const head = await weights.read({ name, shape })
  if (head.some((value, i) => value !== table[i])) {
    const problem = `tensor "${name}" differs from "${embedding}", but config.json ties them ("tie_word_embeddings")`
    throw new ModelError("unexpected-tensor", weights.listing, problem)
  }
}

const listed = (names: ReadonlyArray<string>): string => {
  const shown = names.slice(0, 3).map((name) => JSON.stringify(name))
  const more = names.length > 3 ? ` and ${names.length - 3} more` : ""
  return `tensor${names.length > 1 ? "s" : ""} ${shown.join(", ")}${more} ${names.length > 1 ? "are" : "is"}`
}
