import {
  bytesOf,
  dtypeOf,
  quantizedForm,
  showShape,
  sizeOf,
  type ComputeType,
  type DType,
  type HalfType,
  type HostArray,
  type QuantizedType,
  type Shape,
} from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import type { Tensor } from "../graph/tensor.ts"
import { normalArray, uniformArray } from "../random/host.ts"
import { hostData, type Nested } from "./host-data.ts"
import type { Storage } from "./storage.ts"

const arrays = { f32: Float32Array, i32: Int32Array, u32: Uint32Array } as const

/** Ways to make tensors from nothing: what a device adds to the operations between them. */
export abstract class TensorFactory {
  /** A tensor with a copy of `data`: numbers and lists of them become f32. `shape` defaults to that of the lists. */
  tensor(data: HostArray | Nested, shape?: Shape, owner = "tensor"): Tensor {
    const { array, shape: own } = hostData(data)
    const full = shape ?? own
    if (sizeOf(full) !== array.length)
      throw new ShapeError("tensor", `${array.length} elements do not fill shape ${showShape(full)}`)
    return this.upload(array, full, dtypeOf(array), owner)
  }

  /** A tensor over fresh memory that starts with `bytes`. For the library's own operations. */
  abstract upload(bytes: ArrayBufferView<ArrayBuffer>, shape: Shape, dtype: DType, owner: string): Tensor

  /** Fresh memory of `bytes`, contents undefined. For the library's own operations. */
  abstract allocate(bytes: number, owner: string): Storage

  /** A tensor over memory that exists. For the library's own operations. */
  abstract wrap(storage: Storage, shape: Shape, dtype: DType): Tensor

  /** A tensor over fresh memory, whose contents are undefined. */
  empty(shape: Shape, dtype: DType = "f32", owner = "tensor"): Tensor {
    return this.wrap(this.allocate(bytesOf(dtype, sizeOf(shape)), owner), shape, dtype)
  }

  /** Zeros with memory of their own, unlike {@link constant}. */
  zeros(shape: Shape, dtype: DType = "f32", owner = "tensor"): Tensor {
    const bytes = Math.ceil(bytesOf(dtype, sizeOf(shape)) / 4) * 4
    return this.upload(new Uint8Array(bytes), shape, dtype, owner)
  }

  ones(shape: Shape, dtype: ComputeType = "f32"): Tensor {
    return this.full(shape, 1, dtype)
  }

  /** `value` everywhere, with memory of its own. */
  full(shape: Shape, value: number, dtype: ComputeType = "f32"): Tensor {
    return this.tensor(new arrays[dtype](sizeOf(shape)).fill(value), shape)
  }

  /** start, start + step, … (`count` of them). */
  arange(
    count: number,
    {
      start = 0,
      step = 1,
      dtype = "f32",
    }: { readonly start?: number; readonly step?: number; readonly dtype?: ComputeType } = {},
  ): Tensor {
    const data = new arrays[dtype](count)
    for (let i = 0; i < count; i++) data[i] = start + i * step
    return this.tensor(data)
  }

  /** `count` numbers from `start` to `stop`, both included, at equal distances. */
  linspace(start: number, stop: number, count: number): Tensor {
    return this.tensor(
      Float32Array.from({ length: count }, (_, i) =>
        i === count - 1 ? stop : start + (i * (stop - start)) / (count - 1),
      ),
    )
  }

  /** 1 on the diagonal, 0 elsewhere: [rows, columns]. */
  eye(rows: number, columns = rows): Tensor {
    const data = new Float32Array(rows * columns)
    for (let i = 0; i < Math.min(rows, columns); i++) data[i * columns + i] = 1
    return this.tensor(data, [rows, columns])
  }

  /** A tensor of f16 or bf16 from their bit patterns. */
  half(bits: Uint16Array<ArrayBuffer>, shape: Shape, dtype: HalfType, owner = "tensor"): Tensor {
    if (bits.length !== sizeOf(shape))
      throw new ShapeError("half", `${bits.length} elements do not fill ${showShape(shape)}`)
    if (bits.length % 2 === 0) return this.upload(bits, shape, dtype, owner)
    const padded = new Uint16Array(bits.length + 1)
    padded.set(bits)
    return this.upload(padded, shape, dtype, owner)
  }

  /** A tensor of a quantised dtype from its words, as `quantizedWords` gives them. */
  quantized(words: Uint32Array<ArrayBuffer>, shape: Shape, dtype: QuantizedType, owner = "tensor"): Tensor {
    const { group } = quantizedForm(dtype)
    if (sizeOf(shape) % group !== 0 || words.byteLength !== bytesOf(dtype, sizeOf(shape)))
      throw new ShapeError("quantized", `${words.length} words are not ${showShape(shape)} as ${dtype}`)
    return this.upload(words, shape, dtype, owner)
  }

  /** Normal deviates, a function of `seed` and the element's position alone. */
  normal(shape: Shape, options: { readonly seed: number; readonly mean?: number; readonly std?: number }): Tensor {
    return this.tensor(normalArray(sizeOf(shape), options), shape)
  }

  /** Uniform deviates in [low, high), a function of `seed` and the element's position alone. */
  uniform(shape: Shape, options: { readonly seed: number; readonly low?: number; readonly high?: number }): Tensor {
    return this.tensor(uniformArray(sizeOf(shape), options), shape)
  }

  /** A scalar that needs no memory: kernels take it as a parameter. */
  abstract constant(value: number, dtype?: ComputeType): Tensor
}
