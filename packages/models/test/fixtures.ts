import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { readSafetensors, safetensorsToFloat32, type Gpu } from "@rlpt/tensor"
import { packSequences, type ModelFiles, type PackedArrays, type PackedTokens } from "../src/index.ts"

/** The folder of what `fixtures/make_*.py` wrote. */
export const fixtures = join(import.meta.dirname, "fixtures")

/** Models that tests share and the repository does not carry. */
export const sharedModels = join(import.meta.dirname, "../../../../shared/models")

/** The files of a directory, in memory. */
export const filesOf = (directory: string): ModelFiles =>
  Object.fromEntries(readdirSync(directory).map((file) => [file, new Uint8Array(readFileSync(join(directory, file)))]))

/** A tiny Llama's files, without what the tests expect of it. */
export const llamaFiles = (name: string): Record<string, Uint8Array> => {
  const { "expected.safetensors": _, ...files } = filesOf(join(fixtures, name))
  return files
}

/** What PyTorch computed for a tiny Llama. */
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
