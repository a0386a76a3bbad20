import { mkdir, open, readdir, rename, rm } from "node:fs/promises"
import { join } from "node:path"
import { safetensorsFromFloat32, writeSafetensors, type SafetensorsTensor } from "@rlpt/tensor"
import { familyOf } from "./config.ts"
import { ModelError } from "./errors.ts"
import type { ModelFiles } from "./files.ts"
import type { Model } from "./load.ts"
import { mergedParameter } from "./lora/merge.ts"
import { sizeOf, type Parameters } from "./parameters.ts"
import { transpose } from "./transpose.ts"
import { INDEX, SINGLE } from "./weights.ts"

export interface ExportOptions {
  /** The weights to write, if not the model's own: an average or a best step. */
  readonly parameters?: Parameters
  /** Element type of the file. F32 loses nothing; F16 and BF16 round to nearest. */
  readonly dtype?: "F32" | "F16" | "BF16"
  /** Bytes of weights above which they are split into several files. Default: 2 GB, which every runtime can write. */
  readonly maxShardBytes?: number
}

const DTYPES = {
  F32: { torch: "float32", bytes: 4 },
  F16: { torch: "float16", bytes: 2 },
  BF16: { torch: "bfloat16", bytes: 2 },
} as const
const MAX_SHARD_BYTES = 2_000_000_000

/**
 * The model as files of a Hugging Face directory that transformers and vLLM load: `config.json` as it was read (but for
 * the dtype), `model.safetensors` or its shards with their index, `generation_config.json` and the tokenizer's files. An
 * adapter is merged into the weights.
 *
 * @throws ModelError if a weight is not finite: a broken model is never written
 */
export const exportModel = async (model: Model, options: ExportOptions = {}): Promise<ModelFiles> => {
  const files: Record<string, Uint8Array> = {}
  for await (const [file, bytes] of exportFiles(model, options)) files[file] = bytes
  return files
}

/**
 * Writes what {@link exportModel} gives into `directory`, with one file in memory at a time. Each file appears whole, and
 * weights of another model that lie there are removed.
 */
export const saveModel = async (model: Model, directory: string, options: ExportOptions = {}): Promise<void> => {
  await mkdir(directory, { recursive: true })
  const written = new Set<string>()
  for await (const [file, bytes] of exportFiles(model, options)) {
    const path = join(directory, file)
    const handle = await open(`${path}.incomplete`, "w")
    try {
      await handle.writeFile(bytes)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(`${path}.incomplete`, path)
    written.add(file)
  }
  // A model.safetensors of before would be loaded in place of new shards.
  const stale = (await readdir(directory)).filter((file) => WEIGHT_FILE.test(file) && !written.has(file))
  await Promise.all(stale.map((file) => rm(join(directory, file))))
}

const WEIGHT_FILE = /^model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?$/

async function* exportFiles(
  model: Model,
  options: ExportOptions,
): AsyncGenerator<readonly [file: string, bytes: Uint8Array]> {
  const { parameters = model.parameters, dtype = "F32", maxShardBytes = MAX_SHARD_BYTES } = options
  yield ["generation_config.json", json(generationConfig(model))]
  yield* Object.entries(model.extraFiles)
  yield ["config.json", json(configJson(model, dtype))]

  const shards = planShards(model, DTYPES[dtype].bytes, maxShardBytes)
  let index = 0
  let tensors = new Map<string, SafetensorsTensor>()
  for await (const [name, tensor] of readTensors(model, parameters, dtype)) {
    tensors.set(name, tensor)
    if (tensors.size < shards[index]!.length) continue
    // transformers refuses a file that does not say which framework wrote it.
    yield [shardName(index, shards.length), writeSafetensors(tensors, { format: "pt" })]
    tensors = new Map()
    index++
  }
  if (shards.length > 1) yield [INDEX, json(shardIndex(shards))]
}

/** A tensor of the checkpoint and its bytes. */
interface PlannedTensor {
  readonly name: string
  readonly bytes: number
}

/** Tensors in the order of the decoder, cut where the next one would not fit. */
const planShards = (
  { decoder }: Model,
  elementBytes: number,
  maxShardBytes: number,
): ReadonlyArray<ReadonlyArray<PlannedTensor>> => {
  const shards: PlannedTensor[][] = [[]]
  let filled = 0
  for (const { name, shape } of decoder.specs.flatMap(({ parts }) => parts)) {
    const bytes = sizeOf(shape) * elementBytes
    if (filled > 0 && filled + bytes > maxShardBytes) {
      shards.push([])
      filled = 0
    }
    shards.at(-1)!.push({ name, bytes })
    filled += bytes
  }
  return shards
}

const shardName = (index: number, count: number): string => {
  const digits = (value: number) => String(value).padStart(5, "0")
  return count === 1 ? SINGLE : `model-${digits(index + 1)}-of-${digits(count)}.safetensors`
}

const shardIndex = (shards: ReadonlyArray<ReadonlyArray<PlannedTensor>>): unknown => ({
  metadata: { total_size: shards.flat().reduce((total, { bytes }) => total + bytes, 0) },
  weight_map: Object.fromEntries(
    shards.flatMap((shard, i) => shard.map(({ name }) => [name, shardName(i, shards.length)])),
  ),
})

/** The checkpoint's tensors, one parameter at a time in the host's memory. */
async function* readTensors(
  { decoder }: Model,
  parameters: Parameters,
  dtype: keyof typeof DTYPES,
): AsyncGenerator<readonly [name: string, tensor: SafetensorsTensor]> {
  for (const spec of decoder.specs) {
    const tensor = mergedParameter(decoder, parameters, spec.name)
    const values = (await tensor.data()) as Float32Array
    if (tensor !== parameters[spec.name]) tensor.dispose()
    let offset = 0
    for (const { name, shape, transposed } of spec.parts) {
      const size = sizeOf(shape)
      const stored = values.subarray(offset, offset + size)
      const part = transposed ? transpose(stored, shape[1]!, shape[0]!) : stored
      if (!part.every(Number.isFinite)) {
        throw new ModelError("not-finite", SINGLE, `tensor "${name}" holds NaN or infinity; not written`)
      }
      yield [name, safetensorsFromFloat32(part, shape, dtype)]
      offset += size
    }
  }
}

/** Fields that are floats to transformers, which refuses or warns of an integer there: JavaScript writes 30.0 as 30. */
const FLOATS = [
  "initializer_range",
  "final_logit_softcapping",
  "attn_logit_softcapping",
  "partial_rotary_factor",
  "rope_theta",
  "rope_local_base_freq",
  "factor",
  "low_freq_factor",
  "high_freq_factor",
  "attention_factor",
  "beta_fast",
  "beta_slow",
  "mscale",
  "mscale_all_dim",
]
const integerForFloat = new RegExp(`^( *"(?:${FLOATS.join("|")})": \\d+)(?=,?$)`, "gm")

const json = (value: unknown): Uint8Array =>
  new TextEncoder().encode(`${JSON.stringify(value, null, 2).replace(integerForFloat, "$1.0")}\n`)

const configJson = ({ configJson, config, decoder }: Model, dtype: keyof typeof DTYPES): unknown => {
  const { kind } = decoder
  return {
    ...configJson,
    architectures: [familyOf(config).architectures[kind]],
    // transformers 5 calls it `dtype`; both versions read `torch_dtype`.
    [Object.hasOwn(configJson, "dtype") ? "dtype" : "torch_dtype"]: DTYPES[dtype].torch,
    ...(kind !== "lm" && labelNames(configJson["id2label"], kind, config.numLabels)),
  }
}

/** The labels' names: those that the model came with, if it is they that are told apart. */
const labelNames = (stored: unknown, kind: string, count: number): object => {
  const known = typeof stored === "object" && stored !== null ? Object.values(stored) : []
  const names = known.length === count ? known.map(String) : count === 1 ? [kind] : undefined
  const labels = names ?? Array.from({ length: count }, (_, i) => `LABEL_${i}`)
  return {
    id2label: Object.fromEntries(labels.map((label, i) => [String(i), label])),
    label2id: Object.fromEntries(labels.map((label, i) => [label, i])),
  }
}

const generationConfig = ({ config: { bosTokenId, eosTokenIds } }: Model): unknown => ({
  ...(bosTokenId !== null && { bos_token_id: bosTokenId }),
  ...(eosTokenIds.length > 0 && { eos_token_id: eosTokenIds.length === 1 ? eosTokenIds[0] : eosTokenIds }),
})
