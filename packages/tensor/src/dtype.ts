/** Element types a tensor can have on the GPU. */
export type DType = "f32" | "i32" | "u32"

/** What the host hands over and gets back, by dtype. */
export type HostArray = Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>

export type Shape = readonly number[]

/** Bytes of one element. Every dtype that a kernel computes in is four bytes wide. */
export const elementBytes = 4

export const sizeOf = (shape: Shape): number => shape.reduce((product, dim) => product * dim, 1)

export const showShape = (shape: Shape): string => `[${shape.join(", ")}]`

export const sameShape = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((dim, i) => dim === b[i])

/** A view of `bytes` as the host array of `dtype`. */
export const hostArray = (dtype: DType, bytes: ArrayBuffer): HostArray =>
  dtype === "f32" ? new Float32Array(bytes) : dtype === "i32" ? new Int32Array(bytes) : new Uint32Array(bytes)

/** The dtype that a host array is stored as. */
export const dtypeOf = (data: HostArray): DType =>
  data instanceof Float32Array ? "f32" : data instanceof Int32Array ? "i32" : "u32"
