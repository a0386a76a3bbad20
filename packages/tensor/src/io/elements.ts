import { arrays, type ComputeType, type HostArray } from "../dtype.ts"
import { float16ToFloat32 } from "./half.ts"

/** How elements of each kind and size (NumPy's names) are read, and what they become: floats f32, the others i32 or u32. */
const readers = {
  f2: ["f32", (view, at, little) => float16ToFloat32(Uint16Array.of(view.getUint16(at, little)))[0]!],
  f4: ["f32", (view, at, little) => view.getFloat32(at, little)],
  f8: ["f32", (view, at, little) => view.getFloat64(at, little)],
  i1: ["i32", (view, at) => view.getInt8(at)],
  i2: ["i32", (view, at, little) => view.getInt16(at, little)],
  i4: ["i32", (view, at, little) => view.getInt32(at, little)],
  i8: ["i32", (view, at, little) => Number(view.getBigInt64(at, little))],
  u1: ["u32", (view, at) => view.getUint8(at)],
  u2: ["u32", (view, at, little) => view.getUint16(at, little)],
  u4: ["u32", (view, at, little) => view.getUint32(at, little)],
  u8: ["u32", (view, at, little) => Number(view.getBigUint64(at, little))],
  b1: ["u32", (view, at) => Number(view.getUint8(at) !== 0)],
} as const satisfies Readonly<
  Record<string, readonly [ComputeType, (view: DataView, at: number, little: boolean) => number]>
>

/** The letter is the kind (float, whole, unsigned, Boolean), the digit the number of bytes. */
export type ElementKind = keyof typeof readers

export const isElementKind = (kind: string): kind is ElementKind => Object.hasOwn(readers, kind)

export const bytesOfKind = (kind: ElementKind): number => Number(kind[1])

/**
 * All elements of `bytes` as the GPU stores them. A float beyond f32 becomes infinite; of a whole number that does not fit,
 * the error that `refuse` makes is thrown. `place` tells which of the elements is the i-th of the result.
 */
export const readElements = (
  kind: ElementKind,
  bytes: Uint8Array,
  refuse: (problem: string) => Error,
  { little = true, place = (i) => i }: { readonly little?: boolean; readonly place?: (i: number) => number } = {},
): HostArray => {
  const [dtype, read] = readers[kind]
  const size = bytesOfKind(kind)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const data = new arrays[dtype](bytes.byteLength / size)
  for (let i = 0; i < data.length; i++) {
    const value = read(view, place(i) * size, little)
    data[i] = value
    if (dtype !== "f32" && data[i] !== value) throw refuse(`element ${i} is ${value}, which ${dtype} cannot hold`)
  }
  return data
}
