import {
  readSafetensorsHeader,
  safetensorsHeaderBytes,
  safetensorsToFloat32,
  type SafetensorsEntry,
} from "@rlpt/tensor"
import { ModelError } from "./errors.ts"
import { readJson, type FileReader, type FileSource } from "./files.ts"
import type { ParameterPart } from "./parameters.ts"

const SINGLE = "model.safetensors"
const INDEX = "model.safetensors.index.json"
const FLOATS: ReadonlySet<string> = new Set(["F32", "F16", "BF16"])

/** The tensors of a checkpoint, in one file or in shards, read one at a time. */
export class CheckpointWeights {
  private constructor(
    /** The file that lists the tensors. */
    readonly listing: string,
    private readonly readers: ReadonlyArray<FileReader>,
    private readonly tensors: ReadonlyMap<
      string,
      SafetensorsEntry & { readonly reader: FileReader; readonly path: string }
    >,
  ) {}

  /**
   * Opens `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
   *
   * @throws ModelError | SafetensorsError for a missing or malformed file, or a shard that lacks what the index promises
   */
  static async open(source: FileSource): Promise<CheckpointWeights> {
    const index = source.has(SINGLE) ? undefined : await readIndex(source)
    const readers: FileReader[] = []
    const tensors = new Map<string, SafetensorsEntry & { reader: FileReader; path: string }>()
    try {
      for (const file of index === undefined ? [SINGLE] : new Set(index.values())) {
        const path = source.path(file)
        const reader = await source.open(file)
        readers.push(reader)
        const headerBytes = safetensorsHeaderBytes(await reader.read(0, Math.min(8, reader.size)), reader.size, path)
        const { entries } = readSafetensorsHeader(await reader.read(0, headerBytes), reader.size, path)
        for (const [name, entry] of entries) {
          if (index === undefined || index.get(name) === file) tensors.set(name, { ...entry, reader, path })
        }
      }
      for (const [name, file] of index ?? []) {
        if (!tensors.has(name)) {
          const problem = `tensor "${name}" is missing, which ${INDEX} says is here`
          throw new ModelError("missing-tensor", source.path(file), problem)
        }
      }
    } catch (error) {
      await Promise.all(readers.map((reader) => reader.close()))
      throw error
    }
    return new CheckpointWeights(source.path(index === undefined ? SINGLE : INDEX), readers, tensors)
  }

  get names(): Iterable<string> {
    return this.tensors.keys()
  }

  has(name: string): boolean {
    return this.tensors.has(name)
  }

  /**
   * A tensor's values as float32, from F32, F16 or BF16.
   *
   * @throws ModelError if it is missing, has another shape, is not of a float type or holds a NaN or an infinity
   */
  async read({ name, shape }: ParameterPart): Promise<Float32Array> {
    const entry = this.tensors.get(name)
    if (entry === undefined) throw new ModelError("missing-tensor", this.listing, `tensor "${name}" is missing`)
    const { path, reader, begin, end, dtype } = entry
    if (entry.shape.length !== shape.length || entry.shape.some((size, axis) => size !== shape[axis])) {
      const problem = `tensor "${name}" has shape [${entry.shape.join(", ")}], but config.json asks for [${shape.join(", ")}]`
      throw new ModelError("wrong-shape", path, problem)
    }
    if (!FLOATS.has(dtype)) {
      throw new ModelError("wrong-dtype", path, `tensor "${name}" is ${dtype}; weights must be F32, F16 or BF16`)
    }
    const values = safetensorsToFloat32({ dtype, data: await reader.read(begin, end) })
    const bad = values.findIndex((value) => !Number.isFinite(value))
    if (bad >= 0) {
      const problem = `tensor "${name}" holds ${values[bad]} (element ${bad} of ${values.length}); the weights are broken`
      throw new ModelError("not-finite", path, problem)
    }
    return values
  }

  async close(): Promise<void> {
    await Promise.all(this.readers.map((reader) => reader.close()))
  }
}

/** File by tensor. */
const readIndex = async (source: FileSource): Promise<ReadonlyMap<string, string>> => {
  if (!source.has(INDEX)) {
    const hint = source.has("pytorch_model.bin") ? "; convert pytorch_model.bin with save_pretrained" : ""
    throw new ModelError("missing-file", source.path(SINGLE), `neither it nor ${INDEX} is there${hint}`)
  }
  const { weight_map: map } = await readJson(source, INDEX)
  const entries: ReadonlyArray<[string, unknown]> = typeof map === "object" && map !== null ? Object.entries(map) : []
  // A shard lies beside its index; a name that leads elsewhere is an attack or a mistake.
  const isFileName = (file: unknown): file is string => typeof file === "string" && /^[^/\\]+\.safetensors$/.test(file)
  if (entries.length === 0 || !entries.every(([, file]) => isFileName(file))) {
    throw new ModelError("invalid-file", source.path(INDEX), `"weight_map" must give a .safetensors file by tensor`)
  }
  return new Map(entries as ReadonlyArray<[string, string]>)
}
