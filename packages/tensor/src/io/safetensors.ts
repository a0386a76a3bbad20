import { showShape, sizeOf, type HostArray, type Shape } from "../dtype.ts"
import { readElements, type ElementKind } from "./elements.ts"
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from "./half.ts"

/**
 * The safetensors file format: 8 bytes of header length (u64, little-endian), a JSON header, then the tensors' bytes
 * without gaps. https://github.com/huggingface/safetensors#format
 */

/** Bits of an element, listed as the reference implementation orders tensors in a file: wider ones first keeps all aligned. */
const ELEMENT_BITS = {
  U64: 64,
  I64: 64,
  F64: 64,
  C64: 64,
  F32: 32,
  U32: 32,
  I32: 32,
  BF16: 16,
  F16: 16,
  U16: 16,
  I16: 16,
  F8_E5M2FNUZ: 8,
  F8_E4M3FNUZ: 8,
  F8_E8M0: 8,
  F8_E4M3: 8,
  F8_E5M2: 8,
  I8: 8,
  U8: 8,
  F6_E3M2: 6,
  F6_E2M3: 6,
  F4: 4,
  BOOL: 8,
} as const
const DTYPES = Object.keys(ELEMENT_BITS)

/** Element types, by the format's own names. */
export type SafetensorsDType = keyof typeof ELEMENT_BITS

const bytesOf = (dtype: SafetensorsDType, shape: Shape): number => (ELEMENT_BITS[dtype] * sizeOf(shape)) / 8

/** The reference implementation's limit; a larger header is a corrupt length field. */
const MAX_HEADER_BYTES = 100_000_000

/** A file that is not valid safetensors. The message names the file, the tensor and what is wrong. */
export class SafetensorsError extends Error {
  override readonly name = "SafetensorsError"
  readonly file: string
  readonly tensor: string | undefined

  constructor(file: string, problem: string, tensor?: string) {
    super(tensor === undefined ? `${file}: ${problem}` : `${file}: tensor "${tensor}": ${problem}`)
    this.file = file
    this.tensor = tensor
  }
}

/** Where a tensor lies: bytes `begin` … `end` of the file. */
export interface SafetensorsEntry {
  readonly dtype: SafetensorsDType
  readonly shape: Shape
  readonly begin: number
  readonly end: number
}

export interface SafetensorsHeader {
  /** In the order of the header. */
  readonly entries: ReadonlyMap<string, SafetensorsEntry>
  readonly metadata: Readonly<Record<string, string>>
}

/** A tensor's bytes, little-endian and row-major. Read from a file, `data` is a view of the file's bytes. */
export interface SafetensorsTensor {
  readonly dtype: SafetensorsDType
  readonly shape: Shape
  readonly data: Uint8Array
}

export interface SafetensorsFile {
  readonly tensors: ReadonlyMap<string, SafetensorsTensor>
  readonly metadata: Readonly<Record<string, string>>
}

/** Length in bytes of the length field and the header together, from the first 8 bytes of a file of `fileBytes`. */
export const safetensorsHeaderBytes = (start: Uint8Array, fileBytes: number, file: string): number => {
  if (fileBytes < 8 || start.length < 8) {
    throw new SafetensorsError(file, `a safetensors file has at least 8 bytes, this one has ${fileBytes}`)
  }
  const length = new DataView(start.buffer, start.byteOffset).getBigUint64(0, true)
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw new SafetensorsError(
      file,
      `says that its header has ${length} bytes (at most ${MAX_HEADER_BYTES} are allowed): not a safetensors file`,
    )
  }
  const end = 8 + Number(length)
  if (end > fileBytes) {
    throw new SafetensorsError(
      file,
      `truncated: the header ends at byte ${end} but the file has ${fileBytes}; ${end - fileBytes} bytes are missing`,
    )
  }
  return end
}

/**
 * Parses and checks the header of a file of `fileBytes` bytes without needing its tensors.
 *
 * @param head the file's first {@link safetensorsHeaderBytes} bytes, or more
 * @param file the name that errors carry
 */
export const readSafetensorsHeader = (head: Uint8Array, fileBytes: number, file: string): SafetensorsHeader => {
  const dataStart = safetensorsHeaderBytes(head, fileBytes, file)
  const header = parseHeader(head.subarray(8, dataStart), file)
  const metadata = readMetadata(header, file)
  const entries = new Map<string, SafetensorsEntry>()
  for (const [name, value] of Object.entries(header)) {
    if (name !== "__metadata__") entries.set(name, readEntry(name, value, dataStart, file))
  }
  checkLayout(entries, dataStart, fileBytes, file)
  return { entries, metadata }
}

/**
 * Reads a whole file held in memory. No bytes are copied.
 *
 * @param file the name that errors carry
 */
export const readSafetensors = (bytes: Uint8Array, file: string): SafetensorsFile => {
  const { entries, metadata } = readSafetensorsHeader(bytes, bytes.length, file)
  const tensors = new Map<string, SafetensorsTensor>()
  for (const [name, { dtype, shape, begin, end }] of entries) {
    tensors.set(name, { dtype, shape, data: bytes.subarray(begin, end) })
  }
  return { tensors, metadata }
}

/** Writes a file: the same tensors always give the same bytes, those that the reference implementation writes. */
export const writeSafetensors = (
  tensors: ReadonlyMap<string, SafetensorsTensor>,
  metadata?: Readonly<Record<string, string>>,
): Uint8Array<ArrayBuffer> => {
  const list = [...tensors].sort(
    ([a, x], [b, y]) => DTYPES.indexOf(x.dtype) - DTYPES.indexOf(y.dtype) || (a < b ? -1 : 1),
  )
  const fields: string[] = []
  if (metadata !== undefined && Object.keys(metadata).length > 0) {
    const sorted = Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1))
    fields.push(`"__metadata__":${JSON.stringify(Object.fromEntries(sorted))}`)
  }
  let offset = 0
  for (const [name, { dtype, shape, data }] of list) {
    const expected = bytesOf(dtype, shape)
    if (data.length !== expected || name === "__metadata__") {
      const problem = name === "__metadata__" ? "the name is reserved" : mismatch(dtype, shape, expected, data.length)
      throw new SafetensorsError("a safetensors file to write", problem, name)
    }
    const info = { dtype, shape, data_offsets: [offset, offset + data.length] }
    fields.push(`${JSON.stringify(name)}:${JSON.stringify(info)}`)
    offset += data.length
  }
  const header = new TextEncoder().encode(`{${fields.join()}}`)
  const headerBytes = Math.ceil(header.length / 8) * 8
  const out = new Uint8Array(8 + headerBytes + offset)
  new DataView(out.buffer).setBigUint64(0, BigInt(headerBytes), true)
  out.fill(0x20, 8, 8 + headerBytes)
  out.set(header, 8)
  let position = 8 + headerBytes
  for (const [, { data }] of list) {
    out.set(data, position)
    position += data.length
  }
  return out
}

/** A float tensor's values as float32: exact for F32, F16 and BF16. Always a copy. Throws for integer tensors. */
export const safetensorsToFloat32 = ({ dtype, data }: Omit<SafetensorsTensor, "shape">): Float32Array<ArrayBuffer> => {
  // Not `data.slice()`, which copies nothing if the bytes are Node's Buffer.
  const copy = new Uint8Array(data).buffer
  switch (dtype) {
    case "F32":
      return new Float32Array(copy)
    case "F16":
      return float16ToFloat32(new Uint16Array(copy))
    case "BF16":
      return bfloat16ToFloat32(new Uint16Array(copy))
    default:
      throw new TypeError(`${dtype} is not a float type`)
  }
}

/** Types that are not floats of up to 32 bits, by NumPy's names. Others have elements that no tensor can hold. */
const KINDS: Readonly<Partial<Record<SafetensorsDType, ElementKind>>> = {
  F64: "f8",
  I64: "i8",
  I32: "i4",
  I16: "i2",
  I8: "i1",
  U64: "u8",
  U32: "u4",
  U16: "u2",
  U8: "u1",
  BOOL: "b1",
}

/**
 * A tensor's values as a tensor of the GPU takes them, always a copy: floats as f32 (F64 is rounded), I8 … I64 as i32, U8 …
 * U64 and BOOL as u32. A {@link SafetensorsError}, with the names of the file and the tensor, for a whole number that does
 * not fit and for elements that are none of these (F8, F6, F4, C64).
 */
export const safetensorsToArray = (
  tensor: Omit<SafetensorsTensor, "shape">,
  { name, file }: { readonly name: string; readonly file: string },
): HostArray => {
  const { dtype, data } = tensor
  if (dtype === "F32" || dtype === "F16" || dtype === "BF16") return safetensorsToFloat32(tensor)
  const kind = KINDS[dtype]
  if (!kind) throw new SafetensorsError(file, `no tensor can hold elements of ${dtype}`, name)
  return readElements(kind, data, (problem) => new SafetensorsError(file, `${dtype}: ${problem}`, name))
}

/** `values` as a tensor of a file: F16 and BF16 round to nearest, ties to even; F32 is a view, not a copy. */
export const safetensorsFromFloat32 = (
  values: Float32Array,
  shape: Shape,
  dtype: "F32" | "F16" | "BF16" = "F32",
): SafetensorsTensor => {
  const array = dtype === "F32" ? values : dtype === "F16" ? float32ToFloat16(values) : float32ToBfloat16(values)
  return { dtype, shape, data: new Uint8Array(array.buffer, array.byteOffset, array.byteLength) }
}

const mismatch = (dtype: SafetensorsDType, shape: Shape, expected: number, actual: number) =>
  `${dtype} of shape ${showShape(shape)} takes ${expected} bytes, not ${actual}`

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0

const parseHeader = (bytes: Uint8Array, file: string): Record<string, unknown> => {
  let header: unknown
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes))
  } catch (cause) {
    throw new SafetensorsError(file, `the header is not JSON (${(cause as Error).message})`)
  }
  if (!isObject(header)) throw new SafetensorsError(file, "the header is not a JSON object")
  return header
}

const readMetadata = (header: Record<string, unknown>, file: string): Record<string, string> => {
  const metadata = Object.hasOwn(header, "__metadata__") ? header["__metadata__"] : {}
  if (!isObject(metadata) || !Object.values(metadata).every((value) => typeof value === "string")) {
    throw new SafetensorsError(file, "__metadata__ is not an object of strings")
  }
  return metadata as Record<string, string>
}

const readEntry = (name: string, value: unknown, dataStart: number, file: string): SafetensorsEntry => {
  const fail = (problem: string): never => {
    throw new SafetensorsError(file, problem, name)
  }
  if (!isObject(value)) return fail("its header entry is not an object")
  const { dtype, shape, data_offsets: offsets } = value
  if (typeof dtype !== "string" || !Object.hasOwn(ELEMENT_BITS, dtype)) {
    return fail(`dtype ${JSON.stringify(dtype)} is none of the format (${DTYPES.join(", ")})`)
  }
  if (!Array.isArray(shape) || !shape.every(isSize)) {
    return fail(`shape ${JSON.stringify(shape)} is not a list of sizes`)
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize) || offsets[0]! > offsets[1]!) {
    return fail(`data_offsets ${JSON.stringify(offsets)} is not a [begin, end] with begin ≤ end`)
  }
  const [begin, end] = offsets as [number, number]
  const expected = bytesOf(dtype as SafetensorsDType, shape)
  if (end - begin !== expected) return fail(mismatch(dtype as SafetensorsDType, shape, expected, end - begin))
  return { dtype: dtype as SafetensorsDType, shape, begin: dataStart + begin, end: dataStart + end }
}

/** The tensors must fill the rest of the file: in some order, without gaps and without overlaps. */
const checkLayout = (
  entries: ReadonlyMap<string, SafetensorsEntry>,
  dataStart: number,
  fileBytes: number,
  file: string,
): void => {
  const ordered = [...entries].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end)
  const last = ordered.reduce((max, [, { end }]) => Math.max(max, end), dataStart)
  if (last > fileBytes) {
    const [name] = ordered.find(([, { end }]) => end > fileBytes)!
    throw new SafetensorsError(
      file,
      `truncated: its data end beyond the file of ${fileBytes} bytes; ${last - fileBytes} bytes are missing`,
      name,
    )
  }
  let position = dataStart
  for (const [name, { begin, end }] of ordered) {
    if (begin !== position) {
      const problem =
        begin < position ? "its data overlap another tensor's" : `${begin - position} unused bytes before it`
      throw new SafetensorsError(file, `${problem} (data_offsets ${begin - dataStart}, ${end - dataStart})`, name)
    }
    position = end
  }
  if (position !== fileBytes) {
    throw new SafetensorsError(file, `${fileBytes - position} bytes after the last tensor belong to none`)
  }
}
