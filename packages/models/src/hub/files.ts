import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { ModelError } from "../errors.ts"
import { EXTRA_FILES } from "../files.ts"
import { INDEX, shardsOf, SINGLE } from "../weights.ts"
import { fileSize } from "./cache.ts"

const isGguf = (name: string) => name.toLowerCase().endsWith(".gguf")

/** What a repository's files are to us. */
export interface ModelFileNames {
  /** Small files, read whole. */
  readonly configuration: ReadonlyArray<string>
  /** The weights, or undefined if a shard index names them. */
  readonly weights: ReadonlyArray<string> | undefined
}

/**
 * Which of a repository's files make the model: configuration, tokenizer and safetensors, or its one GGUF file.
 *
 * @param model the name that errors carry
 * @throws ModelError if there are no weights, or several GGUF files to choose from
 */
export const modelFiles = (names: ReadonlyArray<string>, model: string): ModelFileNames => {
  const has = (name: string) => names.includes(name)
  if (has("config.json") && (has(SINGLE) || has(INDEX))) {
    const configuration = ["config.json", ...EXTRA_FILES].filter(has)
    if (has(SINGLE)) return { configuration, weights: [SINGLE] }
    return { configuration: [...configuration, INDEX], weights: undefined }
  }
  const ggufs = names.filter(isGguf)
  if (ggufs.length === 1) return { configuration: [], weights: ggufs }
  const problem =
    ggufs.length > 1
      ? `has ${ggufs.length} GGUF files; choose one: ${ggufs.map((file) => `${model}/${file}`).join(", ")}`
      : "has neither config.json with model.safetensors (or its shards) nor a GGUF file"
  throw new ModelError(ggufs.length > 1 ? "invalid-file" : "missing-file", model, problem)
}

/** The shards that a downloaded index names. */
export const shardNames = async (indexPath: string): Promise<ReadonlyArray<string>> => {
  const text = await readFile(indexPath, "utf8")
  let index: unknown
  try {
    index = JSON.parse(text)
  } catch (cause) {
    throw new ModelError("invalid-file", indexPath, `is not JSON (${(cause as Error).message})`, { cause })
  }
  return [...new Set(shardsOf(index, indexPath).values())]
}

/** Whether a cached snapshot holds a whole model: another program may have downloaded some of its files only. */
export const isComplete = async (snapshot: string, file: string | undefined): Promise<boolean> => {
  const all = async (names: ReadonlyArray<string>) => {
    const sizes = await Promise.all(names.map((name) => fileSize(join(snapshot, name))))
    return sizes.every((size) => size !== undefined)
  }
  if (file !== undefined) return all([file])
  if (!(await all(["config.json"]))) return false
  if (await all([SINGLE])) return true
  return (await all([INDEX])) && (await all(await shardNames(join(snapshot, INDEX)).catch(() => [""])))
}
