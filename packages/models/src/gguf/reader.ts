import { ModelError } from "../errors.ts"
import type { FileReader } from "../files.ts"
import { blockTypes, type GgmlType } from "./blocks.ts"

/**
 * The GGUF file format, versions 2 and 3: metadata and tensor infos, then the tensors' bytes.
 * https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */

/** A metadata value. Integers of 64 bits must be safe integers; arrays hold one type. */
export type GgufValue =
  | number
  | boolean
  | string
  | ReadonlyArray<number>
  | ReadonlyArray<boolean>
  | ReadonlyArray<string>

/** Where a tensor lies: bytes `begin` … `end` of the file. */
export interface GgufTensor {
  readonly type: GgmlType
  /** Row-major, as in PyTorch: the reverse of the file's. */
  readonly shape: ReadonlyArray<number>
  readonly begin: number
  readonly end: number
}

export interface GgufHeader {
  readonly metadata: ReadonlyMap<string, GgufValue>
  readonly tensors: ReadonlyMap<string, GgufTensor>
}

/** Far above the largest vocabularies (about 15 MB); a larger header is a corrupt length field. */
const MAX_HEADER_BYTES = 128 * 2 ** 20
const FIRST_READ = 2 ** 20
/** The limits of ggml. */
const MAX_DIMENSIONS = 4
const MAX_NAME_BYTES = 64

/** `enum ggml_type`; of those that cannot be read, the ones that published files use. */
const TYPES: Readonly<Record<number, GgmlType>> = {
  0: "F32",
  1: "F16",
  2: "Q4_0",
  3: "Q4_1",
  6: "Q5_0",
  7: "Q5_1",
  8: "Q8_0",
  12: "Q4_K",
  13: "Q5_K",
  14: "Q6_K",
  30: "BF16",
}
const UNREADABLE: Readonly<Record<number, string>> = {
  10: "Q2_K",
  11: "Q3_K",
  16: "IQ2_XXS",
  17: "IQ2_XS",
  18: "IQ3_XXS",
  19: "IQ1_S",
  20: "IQ4_NL",
  21: "IQ3_S",
  22: "IQ2_S",
  23: "IQ4_XS",
  29: "IQ1_M",
  34: "TQ1_0",
  35: "TQ2_0",
  39: "MXFP4",
}

/**
 * Reads and checks the header of a GGUF file, and no tensor.
 *
 * @param file the name that errors carry
 * @throws ModelError if the file is not GGUF, truncated, inconsistent, or has a tensor of a type that is not supported
 */
export const readGgufHeader = async (reader: FileReader, file: string): Promise<GgufHeader> => {
  for (let bytes = Math.min(FIRST_READ, reader.size); ;) {
    try {
      return parseHeader(new Cursor(await reader.read(0, bytes), file), reader.size)
    } catch (error) {
      if (!(error instanceof EndOfBytes)) throw error
      const { needed } = error
      const fail = (problem: string) => new ModelError("invalid-file", file, problem)
      if (needed > reader.size) throw fail(`truncated: its header goes on beyond the file's ${reader.size} bytes`)
      if (needed > MAX_HEADER_BYTES) throw fail(`its header is larger than ${MAX_HEADER_BYTES} bytes: not a GGUF model`)
      bytes = Math.min(reader.size, MAX_HEADER_BYTES, Math.max(4 * bytes, needed))
    }
  }
}

/** The header goes on behind the bytes that were read. */
class EndOfBytes extends Error {
  constructor(readonly needed: number) {
    super()
  }
}

/** Reads little-endian values one after the other. */
class Cursor {
  position = 0
  private readonly view: DataView
  private readonly text = new TextDecoder("utf-8", { ignoreBOM: true })

  constructor(
    private readonly bytes: Uint8Array,
    readonly file: string,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  fail(problem: string): never {
    throw new ModelError("invalid-file", this.file, problem)
  }

  /** Steps over `count` bytes and returns where they began. */
  skip(count: number): number {
    const at = this.position
    if (count > this.bytes.length - at) throw new EndOfBytes(at + count)
    this.position += count
    return at
  }

  u32(): number {
    return this.view.getUint32(this.skip(4), true)
  }

  u64(): number {
    return this.safe(this.view.getBigUint64(this.skip(8), true))
  }

  string(): string {
    const length = this.u64()
    const at = this.skip(length)
    return this.text.decode(this.bytes.subarray(at, at + length))
  }

  /** Reads one value of each fixed-size type of `enum gguf_metadata_value_type`. */
  readonly scalars: ReadonlyArray<undefined | { readonly bytes: number; readonly read: () => number | boolean }> = [
    { bytes: 1, read: () => this.view.getUint8(this.skip(1)) },
    { bytes: 1, read: () => this.view.getInt8(this.skip(1)) },
    { bytes: 2, read: () => this.view.getUint16(this.skip(2), true) },
    { bytes: 2, read: () => this.view.getInt16(this.skip(2), true) },
    { bytes: 4, read: () => this.u32() },
    { bytes: 4, read: () => this.view.getInt32(this.skip(4), true) },
    { bytes: 4, read: () => this.view.getFloat32(this.skip(4), true) },
    { bytes: 1, read: () => this.view.getUint8(this.skip(1)) !== 0 },
    undefined,
    undefined,
    { bytes: 8, read: () => this.u64() },
    { bytes: 8, read: () => this.safe(this.view.getBigInt64(this.skip(8), true)) },
    { bytes: 8, read: () => this.view.getFloat64(this.skip(8), true) },
  ]

  private safe(value: bigint): number {
    const number = Number(value)
    if (!Number.isSafeInteger(number))
      this.fail(`holds the integer ${value}, which no size or count can be; it is corrupt`)
    return number
  }
}

const STRING = 8
const ARRAY = 9

const readValue = (cursor: Cursor, type: number, key: string): GgufValue => {
  if (type === STRING) return cursor.string()
  if (type !== ARRAY) return scalar(cursor, type, key).read()
  const elementType = cursor.u32()
  const count = cursor.u64()
  if (elementType === STRING) {
    // Each takes at least its length field: a count beyond that is refused before memory is set aside.
    const start = cursor.position
    cursor.skip(count * 8)
    cursor.position = start
    return Array.from({ length: count }, () => cursor.string())
  }
  const { bytes, read } = scalar(cursor, elementType, key)
  const start = cursor.position
  cursor.skip(count * bytes)
  cursor.position = start
  return Array.from({ length: count }, read) as ReadonlyArray<number> | ReadonlyArray<boolean>
}

const scalar = (cursor: Cursor, type: number, key: string) =>
  cursor.scalars[type] ?? cursor.fail(`metadata ${JSON.stringify(key)} has a value of unknown type ${type}`)

const parseHeader = (cursor: Cursor, fileBytes: number): GgufHeader => {
  // "GGUF", little-endian.
  if (fileBytes < 4 || cursor.u32() !== 0x46554747) cursor.fail("does not start with GGUF; this is not a GGUF file")
  const version = cursor.u32()
  if (version !== 2 && version !== 3) {
    const bigEndian = (version & 0xffff) === 0
    cursor.fail(
      bigEndian ? "is big-endian, which is not supported" : `is GGUF version ${version}; 2 and 3 are supported`,
    )
  }
  const tensorCount = cursor.u64()
  const valueCount = cursor.u64()

  const metadata = new Map<string, GgufValue>()
  for (let i = 0; i < valueCount; i++) {
    const key = cursor.string()
    if (metadata.has(key)) cursor.fail(`metadata ${JSON.stringify(key)} is there twice`)
    metadata.set(key, readValue(cursor, cursor.u32(), key))
  }

  const infos = new Map<string, Omit<GgufTensor, "end"> & { readonly bytes: number }>()
  for (let i = 0; i < tensorCount; i++) {
    const name = cursor.string()
    if (infos.has(name)) cursor.fail(`tensor ${JSON.stringify(name)} is there twice`)
    infos.set(name, readTensorInfo(cursor, name))
  }
  const dataStart = align(cursor.position, alignmentOf(metadata, cursor))
  return { metadata, tensors: place(infos, dataStart, fileBytes, cursor) }
}

const readTensorInfo = (cursor: Cursor, name: string) => {
  const fail = (problem: string): never =>
    cursor.fail(`tensor ${JSON.stringify(name.slice(0, MAX_NAME_BYTES))}: ${problem}`)
  if (name.length > MAX_NAME_BYTES) fail(`its name is longer than ${MAX_NAME_BYTES} bytes`)
  const dimensions = cursor.u32()
  if (dimensions > MAX_DIMENSIONS) fail(`has ${dimensions} dimensions; at most ${MAX_DIMENSIONS} are allowed`)
  const sizes = Array.from({ length: dimensions }, () => cursor.u64())
  const elements = sizes.reduce((product, size) => product * size, 1)
  if (elements === 0 || !Number.isSafeInteger(elements))
    fail(`has the impossible shape [${sizes.toReversed().join(", ")}]`)
  const id = cursor.u32()
  const begin = cursor.u64()
  const type = TYPES[id]
  if (type === undefined) {
    const supported = Object.values(TYPES).join(", ")
    const problem = `is ${UNREADABLE[id] ?? `of unknown type ${id}`}, which cannot be read; use a file of ${supported}`
    throw new ModelError("unsupported", cursor.file, `tensor ${JSON.stringify(name)} ${problem}`)
  }
  const block = blockTypes[type]
  const row = sizes[0] ?? 1
  if (row % block.elements !== 0) fail(`rows of ${row} elements do not fill ${type}'s blocks of ${block.elements}`)
  return { type, shape: sizes.toReversed(), begin, bytes: (elements / block.elements) * block.bytes }
}

const align = (position: number, alignment: number): number => Math.ceil(position / alignment) * alignment

const alignmentOf = (metadata: ReadonlyMap<string, GgufValue>, cursor: Cursor): number => {
  const value = metadata.get("general.alignment") ?? 32
  const isPowerOfTwo = typeof value === "number" && value > 0 && value <= 2 ** 20 && (value & (value - 1)) === 0
  return isPowerOfTwo ? value : cursor.fail(`"general.alignment" is ${String(value)}, not a power of two`)
}

/** Every tensor lies inside of the file, and no two share bytes. */
const place = (
  infos: ReadonlyMap<string, Omit<GgufTensor, "end"> & { readonly bytes: number }>,
  dataStart: number,
  fileBytes: number,
  cursor: Cursor,
): ReadonlyMap<string, GgufTensor> => {
  const tensors = new Map<string, GgufTensor>()
  for (const [name, { type, shape, begin, bytes }] of infos) {
    tensors.set(name, { type, shape, begin: dataStart + begin, end: dataStart + begin + bytes })
  }
  let position = dataStart
  for (const [name, { begin, end }] of [...tensors].sort(([, a], [, b]) => a.begin - b.begin)) {
    const quoted = JSON.stringify(name)
    if (end > fileBytes) {
      cursor.fail(`truncated: tensor ${quoted} ends at byte ${end}, but the file has ${fileBytes}; download it again`)
    }
    if (begin < position) cursor.fail(`tensor ${quoted} shares bytes with another`)
    position = end
  }
  return tensors
}
