import { open, readdir, readFile } from "node:fs/promises"
import { join } from "node:path"
import { ModelError } from "./errors.ts"

/** A model held in memory: the files of a Hugging Face directory by name. */
export type ModelFiles = Readonly<Record<string, Uint8Array>>

/** What `save_pretrained` writes besides weights and `config.json`. */
export const EXTRA_FILES = [
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "tokenizer.model",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "merges.txt",
  "chat_template.jinja",
] as const

/** Bytes of one file, read where they are needed: a shard may be larger than the memory. */
export interface FileReader {
  readonly size: number
  readonly read: (begin: number, end: number) => Promise<Uint8Array>
  readonly close: () => Promise<void>
}

/** The files of one model. */
export interface FileSource {
  /** Path of `file` as errors name it. */
  readonly path: (file: string) => string
  readonly names: () => ReadonlyArray<string>
  readonly has: (file: string) => boolean
  readonly read: (file: string) => Promise<Uint8Array>
  readonly open: (file: string) => Promise<FileReader>
}

const missing = (path: string) => new ModelError("missing-file", path, "no such file")

/** Files held in memory. */
export const memorySource = (files: ModelFiles, path: (file: string) => string = (file) => file): FileSource => {
  const get = (file: string): Uint8Array => {
    if (!Object.hasOwn(files, file)) throw missing(path(file))
    return files[file]!
  }
  return {
    path,
    names: () => Object.keys(files),
    has: (file) => Object.hasOwn(files, file),
    read: async (file) => get(file),
    open: async (file) => {
      const bytes = get(file)
      return { size: bytes.length, read: async (begin, end) => bytes.subarray(begin, end), close: async () => {} }
    },
  }
}

/** @throws ModelError if there is no directory at the path */
export const directorySource = async (directory: string): Promise<FileSource> => {
  const names = new Set(
    await readdir(directory).catch((cause: NodeJS.ErrnoException) => {
      const problem =
        cause.code === "ENOENT"
          ? "there is no such directory; give the path of a model as transformers saves it, or of a .gguf file"
          : cause.code === "ENOTDIR"
            ? "is a file; give the directory that holds config.json and model.safetensors, or a .gguf file"
            : `cannot be read (${cause.message})`
      throw new ModelError("missing-directory", directory, problem, { cause })
    }),
  )
  const path = (file: string) => join(directory, file)
  const existing = (file: string) => {
    if (!names.has(file)) throw missing(path(file))
    return path(file)
  }
  return {
    path,
    names: () => [...names],
    has: (file) => names.has(file),
    read: async (file) => {
      const bytes = await readFile(existing(file)).catch((cause: Error) => {
        throw new ModelError("invalid-file", path(file), `cannot be read (${cause.message})`, { cause })
      })
      return new Uint8Array(bytes)
    },
    open: async (file) => openFile(existing(file)),
  }
}

/** Opens a file for reading pieces of it. */
export const openFile = async (path: string): Promise<FileReader> => {
  const handle = await open(path, "r").catch((cause: Error) => {
    throw new ModelError("invalid-file", path, `cannot be opened (${cause.message})`, { cause })
  })
  const found = await handle.stat()
  if (!found.isFile()) {
    await handle.close()
    throw new ModelError("invalid-file", path, "is no file")
  }
  const { size } = found
  return {
    size,
    close: () => handle.close(),
    read: async (begin, end) => {
      const bytes = new Uint8Array(end - begin)
      let filled = 0
      while (filled < bytes.length) {
        const { bytesRead } = await handle.read(bytes, filled, bytes.length - filled, begin + filled)
        if (bytesRead === 0) {
          const problem = `ended at byte ${begin + filled} while it was read; it has been changed`
          throw new ModelError("invalid-file", path, problem)
        }
        filled += bytesRead
      }
      return bytes
    },
  }
}

/** Reads `file` as a JSON object. */
export const readJson = async (source: FileSource, file: string): Promise<Readonly<Record<string, unknown>>> => {
  const text = await readText(source, file)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new ModelError("invalid-file", source.path(file), `is not JSON (${(cause as Error).message})`, { cause })
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ModelError("invalid-file", source.path(file), "is not a JSON object")
  }
  return value as Record<string, unknown>
}

/** Reads `file` as UTF-8. */
export const readText = async (source: FileSource, file: string): Promise<string> => {
  const bytes = await source.read(file)
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new ModelError("invalid-file", source.path(file), "is not UTF-8 text", { cause })
  }
}
