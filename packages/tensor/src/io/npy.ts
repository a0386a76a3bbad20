import { dtypeOf, showShape, sizeOf, type ComputeType, type HostArray, type Shape } from "../dtype.ts"
import { bytesOfKind, isElementKind, readElements } from "./elements.ts"

/** An array of a `.npy` file, row-major, its elements as the GPU stores them. */
export interface NpyArray {
  readonly shape: Shape
  readonly dtype: ComputeType
  readonly data: HostArray
}

/** A file that is not a `.npy` file, or holds what a tensor cannot. The message names the file and what is wrong. */
export class NpyError extends Error {
  override readonly name = "NpyError"
  readonly file: string

  constructor(file: string, problem: string) {
    super(`${file}: ${problem}`)
    this.file = file
  }
}

interface Header {
  readonly descr: string
  readonly fortran: boolean
  readonly shape: Shape
  readonly dataStart: number
}

const magic = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59] // \x93NUMPY

/**
 * Reads a `.npy` file (NumPy's format 1.0 to 3.0). Floats of any size become f32, whole numbers i32 or u32; one that does
 * not fit, and dtypes that are no numbers, throw {@link NpyError}. `file` is named in errors.
 */
export const readNpy = (bytes: Uint8Array, file: string): NpyArray => {
  const { descr, fortran, shape, dataStart } = readHeader(bytes, file)
  const [, order, kind = ""] = /^([<>|=])([fiub]\d)$/.exec(descr) ?? []
  if (!isElementKind(kind))
    throw new NpyError(file, `holds elements of ${descr}; only f2, f4, f8, i1 … i8, u1 … u8 and b1 can be read`)
  const content = bytes.subarray(dataStart)
  const needed = sizeOf(shape) * bytesOfKind(kind)
  if (content.length !== needed)
    throw new NpyError(
      file,
      `has ${content.length} bytes of data, shape ${showShape(shape)} of ${descr} needs ${needed}`,
    )
  const place = fortran ? fortranPlaces(shape) : (i: number) => i
  const refuse = (problem: string) => new NpyError(file, problem)
  const data = readElements(kind, content, refuse, { little: order !== ">", place })
  return { shape, dtype: dtypeOf(data), data }
}

/** Where the element that is i-th in row-major order lies in column-major order. */
const fortranPlaces = (shape: Shape) => {
  const strides = shape.map((_, axis) => sizeOf(shape.slice(0, axis)))
  return (i: number): number => {
    let rest = i
    let place = 0
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      place += (rest % shape[axis]!) * strides[axis]!
      rest = Math.floor(rest / shape[axis]!)
    }
    return place
  }
}

const readHeader = (bytes: Uint8Array, file: string): Header => {
  if (bytes.length < 10 || magic.some((byte, i) => bytes[i] !== byte)) throw new NpyError(file, "is not a .npy file")
  const major = bytes[6]!
  if (major < 1 || major > 3) throw new NpyError(file, `is of format ${major}.${bytes[7]}; 1.0 to 3.0 can be read`)
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  const start = major === 1 ? 10 : 12
  const length =
    major === 1 ? view.getUint16(8, true) : bytes.length >= 12 ? view.getUint32(8, true) : Number.POSITIVE_INFINITY
  if (start + length > bytes.length) throw new NpyError(file, `ends within its header of ${length} bytes`)
  const text = new TextDecoder("utf-8").decode(bytes.subarray(start, start + length))
  const descr = /'descr':\s*('[^']*'|\[.*\])\s*,/.exec(text)?.[1]
  const fortran = /'fortran_order':\s*(True|False)/.exec(text)?.[1]
  const shape = /'shape':\s*\(([\d,\s]*)\)/.exec(text)?.[1]
  if (descr === undefined || fortran === undefined || shape === undefined)
    throw new NpyError(file, `has a header that tells no descr, fortran_order and shape: ${text.trim()}`)
  const dims = shape.split(",").flatMap((dim) => (dim.trim() === "" ? [] : [Number(dim)]))
  return { descr: descr.replaceAll("'", ""), fortran: fortran === "True", shape: dims, dataStart: start + length }
}

const descrs = { f32: "<f4", i32: "<i4", u32: "<u4" } as const

/** Writes a `.npy` file, byte for byte what `numpy.save` writes. */
export const writeNpy = (data: HostArray, shape: Shape): Uint8Array<ArrayBuffer> => {
  if (sizeOf(shape) !== data.length)
    throw new RangeError(`${data.length} elements do not fill shape ${showShape(shape)}`)
  const dims = shape.length === 1 ? `${shape[0]},` : shape.join(", ")
  const dict = `{'descr': '${descrs[dtypeOf(data)]}', 'fortran_order': False, 'shape': (${dims}), }`
  // NumPy leaves room for the first dimension to grow to 21 digits, then aligns the data to 64 bytes.
  const room = shape.length > 0 ? 21 - String(shape[0]).length : 0
  const length = Math.ceil((10 + dict.length + room + 1) / 64) * 64 - 10
  const bytes = new Uint8Array(10 + length + data.byteLength)
  bytes.set([...magic, 1, 0, length & 0xff, length >> 8])
  bytes.set(new TextEncoder().encode(`${dict.padEnd(length - 1)}\n`), 10)
  const view = new DataView(bytes.buffer, 10 + length)
  const write = { f32: "setFloat32", i32: "setInt32", u32: "setUint32" } as const
  data.forEach((value, i) => view[write[dtypeOf(data)]](i * 4, value, true))
  return bytes
}
