import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { readSafetensors, safetensorsToFloat32, type Gpu } from "@rlpt/tensor"
import {
  packSequences,
  type ConfigOptions,
  type ModelFiles,
  type PackedArrays,
  type PackedTokens,
} from "../src/index.ts"

/** The folder of what `fixtures/make_*.py` wrote. */
export const fixtures = join(import.meta.dirname, "fixtures")

/** The tiny models that `make_llama.py` and `make_families.py` wrote, and how they are loaded. */
export const models: ReadonlyArray<readonly [name: string, options: ConfigOptions]> = [
  ["llama-gqa", {}],
  ["llama-tied-bf16", {}],
  ["llama-sharded-f16", {}],
  ["llama3", {}],
  ["llama-linear", {}],
  ["mistral", {}],
  ["qwen2", {}],
  ["qwen3", {}],
  ["gemma2", {}],
  ["gemma3", {}],
  ["smollm3", {}],
  ["phi3", {}],
  ["phi4-short", {}],
  ["phi4-long", { contextLength: 32 }],
  ["gpt2", {}],
]

/** Models that tests share and the repository does not carry. */
export const sharedModels = join(import.meta.dirname, "../../../../shared/models")

/** The files of a directory, in memory. */
export const filesOf = (directory: string): ModelFiles =>
  Object.fromEntries(readdirSync(directory).map((file) => [file, new Uint8Array(readFileSync(join(directory, file)))]))

/** A tiny model's files, without what the tests expect of it. */
export const llamaFiles = (name: string): Record<string, Uint8Array> => {
  const { "expected.safetensors": _, ...files } = filesOf(join(fixtures, name))
  return files
}

/** What PyTorch computed for a tiny model. */
export const expectedOf = (name: string) => {
  const { tensors } = readSafetensors(new Uint8Array(readFileSync(join(fixtures, name, "expected.safetensors"))), name)
  const integers = (tensor: string) => new Int32Array(tensors.get(tensor)!.data.slice().buffer)
  const tokens = integers("tokens")
  let start = 0
  const sequences = [...integers("lengths")].map((length) => tokens.subarray(start, (start += length)))
  return { sequences, floats: (tensor: string) => safetensorsToFloat32(tensors.get(tensor)!) }
}

/** Host arrays as a decoder's input. */
export const upload = (gpu: Gpu, { tokens, positions, spans }: PackedArrays): PackedTokens => ({
  tokens: gpu.tensor(tokens),
  positions: gpu.tensor(positions),
  spans: gpu.tensor(spans, [tokens.length, 4]),
})

export const pack = (gpu: Gpu, sequences: ReadonlyArray<ArrayLike<number>>): PackedTokens =>
  upload(gpu, packSequences(sequences))

/** Largest difference between two arrays. */
export const maxDifference = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  if (a.length !== b.length) throw new RangeError(`lengths ${a.length} and ${b.length} differ`)
  let max = 0
  for (let i = 0; i < a.length; i++) max = Math.max(max, Math.abs(a[i]! - b[i]!))
  return max
}
