import {
  readSafetensorsHeader,
  safetensorsHeaderBytes,
  safetensorsToFloat32,
  type DType,
  type PackedType,
  type SafetensorsDType,
  type SafetensorsEntry,
} from "@rlpt/tensor"
import { ModelError } from "./errors.ts"
import { readJson, type FileReader, type FileSource } from "./files.ts"
import { sizeOf, type ParameterPart } from "./parameters.ts"
import { transpose } from "./transpose.ts"

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
  /** The dtype of fewest bytes that holds a tensor as it is stored, row by row as the decoder has it; f32 if none does. */
  readonly storedAs: (part: ParameterPart) => DType
  /**
   * A tensor's bytes as `dtype`: what {@link storedAs} says, or another quantised type that holds the same. Rows are the
   * decoder's.
   *
   * @throws ModelError as {@link read}
   */
  readonly readPacked: (part: ParameterPart, dtype: PackedType) => Promise<Uint8Array<ArrayBuffer>>
  readonly close: () => Promise<void>
}

export const SINGLE = "model.safetensors"
export const INDEX = "model.safetensors.index.json"
/** Bytes of one element of the types that weights may have. */
const FLOATS: Readonly<Partial<Record<SafetensorsDType, number>>> = { F32: 4, F16: 2, BF16: 2 }
const HALVES: Readonly<Partial<Record<SafetensorsDType, DType>>> = { F16: "f16", BF16: "bf16" }
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
    const { dtype, reader, path, ...entry } = this.entry(part)
    checkShape(part, entry.shape, path)
    const bytes = FLOATS[dtype]
    if (bytes === undefined) {
      throw new ModelError("wrong-dtype", path, `tensor "${part.name}" is ${dtype}; weights must be F32, F16 or BF16`)
    }
    const values = new Float32Array(sizeOf(part.shape))
    await readBlocks(reader, entry, bytes, (source, first) =>
      values.set(safetensorsToFloat32({ dtype, data: source }), first),
    )
    checkFinite(values, part.name, path)
    return values
  }

  storedAs(part: ParameterPart): DType {
    return HALVES[this.entry(part).dtype] ?? "f32"
  }

  async readPacked(part: ParameterPart, dtype: PackedType): Promise<Uint8Array<ArrayBuffer>> {
    const { reader, path, ...entry } = this.entry(part)
    checkShape(part, entry.shape, path)
    const bits = await readHalves(reader, entry, part, dtype, path)
    const [rows, columns] = part.shape as [number, number]
    return bytesOf(part.transposed ? transpose(bits, rows, columns) : bits)
  }

  private entry({ name }: ParameterPart) {
    const entry = this.tensors.get(name)
    if (entry === undefined) throw new ModelError("missing-tensor", this.listing, `tensor "${name}" is missing`)
    return entry
  }

  async close(): Promise<void> {
    await Promise.all(this.readers.map((reader) => reader.close()))
  }
}

/**
 * Reads the bytes `begin` … `end` in chunks of whole blocks; `visit` gets each with the number of its first block, so that
 * a tensor is never in memory twice.
 */
export const readBlocks = async (
  reader: FileReader,
  { begin, end }: { readonly begin: number; readonly end: number },
  blockBytes: number,
  visit: (source: Uint8Array, firstBlock: number) => void,
): Promise<void> => {
  const blocks = Math.floor(CHUNK_BYTES / blockBytes)
  for (let position = begin; position < end;) {
    const next = Math.min(end, position + blocks * blockBytes)
    visit(await reader.read(position, next), (position - begin) / blockBytes)
    position = next
  }
}

/** The bits of a tensor that a file holds as f16 or bf16. */
export const readHalves = async (
  reader: FileReader,
  range: { readonly begin: number; readonly end: number },
  { name, shape }: ParameterPart,
  dtype: DType,
  file: string,
): Promise<Uint16Array<ArrayBuffer>> => {
  const bits = new Uint16Array(sizeOf(shape))
  const bytes = bytesOf(bits)
  await readBlocks(reader, range, 2, (source, first) => bytes.set(source, 2 * first))
  const exponent = dtype === "f16" ? 0x7c00 : 0x7f80
  const broken = bits.findIndex((half) => (half & exponent) === exponent)
  if (broken >= 0) {
    const [value] = safetensorsToFloat32({
      dtype: dtype === "f16" ? "F16" : "BF16",
      data: bytes.subarray(2 * broken, 2 * broken + 2),
    })
    throw notFinite(value!, broken, bits.length, name, file)
  }
  return bits
}

/** Arrays of bytes end to end. */
export const joined = (parts: ReadonlyArray<Uint8Array<ArrayBuffer>>): Uint8Array<ArrayBuffer> => {
  if (parts.length === 1) return parts[0]!
  const bytes = new Uint8Array(parts.reduce((total, part) => total + part.length, 0))
  let at = 0
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}

export const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView<ArrayBuffer>): Uint8Array<ArrayBuffer> =>
  new Uint8Array(buffer, byteOffset, byteLength)

/** @throws ModelError if a tensor of shape `found` is not what the configuration asks for */
export const checkShape = ({ name, shape }: ParameterPart, found: ReadonlyArray<number>, file: string): void => {
  if (found.length === shape.length && found.every((size, axis) => size === shape[axis])) return
  const problem = `tensor "${name}" has shape [${found.join(", ")}], but config.json asks for [${shape.join(", ")}]`
  throw new ModelError("wrong-shape", file, problem)
}

/** @throws ModelError if a value is NaN or infinite */
export const checkFinite = (values: Float32Array, name: string, file: string): void => {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) throw notFinite(values[i]!, i, values.length, name, file)
  }
}

const notFinite = (value: number, index: number, count: number, name: string, file: string): ModelError => {
  const problem = `tensor "${name}" holds ${value} (element ${index} of ${count}); the weights are broken`
  return new ModelError("not-finite", file, problem)
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
