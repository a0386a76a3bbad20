import {
  readSafetensorsHeader,
  safetensorsHeaderBytes,
  safetensorsToFloat32,
  type SafetensorsDType,
  type SafetensorsEntry,
} from "@rlpt/tensor"
import { ModelError } from "./errors.ts"
import { readJson, type FileReader, type FileSource } from "./files.ts"
import { sizeOf, type ParameterPart } from "./parameters.ts"

/** The tensors of a checkpoint by their Hugging Face names, read one at a time. */
export interface Weights {
  /** The file that lists the tensors. */
  readonly listing: string
  readonly names: Iterable<string>
  readonly has: (name: string) => boolean
  /**
   * A tensor's values as float32.
   *
   * @throws ModelError if it is missing, has another shape, is not of a float type or holds a NaN or an infinity
   */
  readonly read: (part: ParameterPart) => Promise<Float32Array<ArrayBuffer>>
  readonly close: () => Promise<void>
}

export const SINGLE = "model.safetensors"
export const INDEX = "model.safetensors.index.json"
/** Bytes of one element of the types that weights may have. */
const FLOATS: Readonly<Partial<Record<SafetensorsDType, number>>> = { F32: 4, F16: 2, BF16: 2 }
/** Bytes that are read at once; what is converted from them is all that the host holds of a tensor twice. */
const CHUNK_BYTES = 16 * 2 ** 20

/** The tensors of `model.safetensors` or its shards. */
export class SafetensorsWeights implements Weights {
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
  static async open(source: FileSource): Promise<SafetensorsWeights> {
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
    return new SafetensorsWeights(source.path(index === undefined ? SINGLE : INDEX), readers, tensors)
  }

  get names(): Iterable<string> {
    return this.tensors.keys()
  }

  has(name: string): boolean {
    return this.tensors.has(name)
  }

  async read(part: ParameterPart): Promise<Float32Array<ArrayBuffer>> {
    const { name, shape } = part
    const entry = this.tensors.get(name)
    if (entry === undefined) throw new ModelError("missing-tensor", this.listing, `tensor "${name}" is missing`)
    const { path, reader, dtype } = entry
    checkShape(part, entry.shape, path)
    const bytes = FLOATS[dtype]
    if (bytes === undefined) {
      throw new ModelError("wrong-dtype", path, `tensor "${name}" is ${dtype}; weights must be F32, F16 or BF16`)
    }
    const values = new Float32Array(sizeOf(shape))
    const decode = (data: Uint8Array, out: Float32Array) => out.set(safetensorsToFloat32({ dtype, data }))
    await readBlocks(reader, entry, { elements: 1, bytes, decode }, values)
    checkFinite(values, name, path)
    return values
  }

  async close(): Promise<void> {
    await Promise.all(this.readers.map((reader) => reader.close()))
  }
}

/**
 * Reads the bytes `begin` … `end` in chunks of whole blocks, and decodes each chunk into its place in `out`: a tensor is
 * never in memory twice.
 */
export const readBlocks = async (
  reader: FileReader,
  { begin, end }: { readonly begin: number; readonly end: number },
  block: {
    readonly elements: number
    readonly bytes: number
    readonly decode: (source: Uint8Array, out: Float32Array) => void
  },
  out: Float32Array,
): Promise<void> => {
  const blocks = Math.floor(CHUNK_BYTES / block.bytes)
  for (let position = begin, filled = 0; position < end;) {
    const next = Math.min(end, position + blocks * block.bytes)
    const count = ((next - position) / block.bytes) * block.elements
    block.decode(await reader.read(position, next), out.subarray(filled, filled + count))
    position = next
    filled += count
  }
}

/** @throws ModelError if a tensor of shape `found` is not what the configuration asks for */
export const checkShape = ({ name, shape }: ParameterPart, found: ReadonlyArray<number>, file: string): void => {
  if (found.length === shape.length && found.every((size, axis) => size === shape[axis])) return
  const problem = `tensor "${name}" has shape [${found.join(", ")}], but config.json asks for [${shape.join(", ")}]`
  throw new ModelError("wrong-shape", file, problem)
}

/** @throws ModelError if a value is NaN or infinite */
export const checkFinite = (values: Float32Array, name: string, file: string): void => {
  for (let i = 0; i < values.length; i++) {
    if (Number.isFinite(values[i])) continue
    const problem = `tensor "${name}" holds ${values[i]} (element ${i} of ${values.length}); the weights are broken`
    throw new ModelError("not-finite", file, problem)
  }
}

/** File by tensor. */
const readIndex = async (source: FileSource): Promise<ReadonlyMap<string, string>> => {
  if (!source.has(INDEX)) {
    const hint = source.has("pytorch_model.bin") ? "; convert pytorch_model.bin with save_pretrained" : ""
    throw new ModelError("missing-file", source.path(SINGLE), `neither it nor ${INDEX} is there${hint}`)
  }
  return shardsOf(await readJson(source, INDEX), source.path(INDEX))
}

/** File by tensor, from a parsed index. */
export const shardsOf = (index: unknown, path: string): ReadonlyMap<string, string> => {
  const map = typeof index === "object" && index !== null && "weight_map" in index ? index.weight_map : undefined
  const entries: ReadonlyArray<[string, unknown]> = typeof map === "object" && map !== null ? Object.entries(map) : []
  // A shard lies beside its index; a name that leads elsewhere is an attack or a mistake.
  const isFileName = (file: unknown): file is string => typeof file === "string" && /^[^/\\]+\.safetensors$/.test(file)
  if (entries.length === 0 || !entries.every(([, file]) => isFileName(file))) {
    throw new ModelError("invalid-file", path, `"weight_map" must give a .safetensors file by tensor`)
  }
  return new Map(entries as ReadonlyArray<[string, string]>)
}
