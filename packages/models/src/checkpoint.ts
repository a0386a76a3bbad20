import { stat } from "node:fs/promises"
import { ModelError } from "./errors.ts"
import { directorySource, memorySource, openFile, type FileSource, type ModelFiles } from "./files.ts"
import { openGguf } from "./gguf/checkpoint.ts"
import { SafetensorsWeights, type Weights } from "./weights.ts"

/** A model as it is stored: the JSON files of a Hugging Face directory, and its tensors. */
export interface Checkpoint {
  readonly files: FileSource
  readonly openWeights: () => Promise<Weights>
}

/**
 * Opens a model's directory, a GGUF file, or the files of either in memory.
 *
 * @throws ModelError if there is neither at the path, or the GGUF file is malformed
 */
export const openCheckpoint = async (source: string | ModelFiles): Promise<Checkpoint> => {
  if (typeof source === "string" && (await isGgufFile(source))) return openGguf(() => openFile(source), source)
  const files = typeof source === "string" ? await directorySource(source) : memorySource(source)
  const gguf = files.has("config.json") ? undefined : onlyGguf(files)
  if (gguf !== undefined) return openGguf(() => files.open(gguf), files.path(gguf))
  return { files, openWeights: () => SafetensorsWeights.open(files) }
}

const isGguf = (name: string): boolean => name.toLowerCase().endsWith(".gguf")

const isGgufFile = async (path: string): Promise<boolean> =>
  isGguf(path) &&
  (await stat(path).then(
    (found) => found.isFile(),
    () => false,
  ))

/** The GGUF file of a directory that holds no Hugging Face model. */
const onlyGguf = (files: FileSource): string | undefined => {
  const [first, ...more] = files.names().filter(isGguf).sort()
  if (first === undefined || more.length === 0) return first
  const problem = `holds ${more.length + 1} GGUF files; give the path of one: ${[first, ...more].map(files.path).join(", ")}`
  throw new ModelError("invalid-file", files.path("config.json"), problem)
}
