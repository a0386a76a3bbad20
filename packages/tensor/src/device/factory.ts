import {
  arrays,
  bytesOf,
  checkDType,
  checkNumber,
  dtypeOf,
  isQuantized,
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
import { float32ToBfloat16, float32ToFloat16 } from "../io/half.ts"
import { checkShape } from "../ops/axes.ts"
import { normalArray, uniformArray } from "../random/host.ts"
import { hostData, type Nested } from "./host-data.ts"
import type { Storage } from "./storage.ts"

/** What one number can fill a tensor of. */
export type FilledType = ComputeType | HalfType | "bool"

const halves = { f16: float32ToFloat16, bf16: float32ToBfloat16 } as const

/** Refuses what is no shape, no dtype, or not one of whole groups. */
const checkSpec = (operation: string, shape: Shape, dtype: DType): void => {
  checkShape(operation, shape)
  checkDType(operation, dtype)
  if (isQuantized(dtype) && (shape.at(-1) ?? 1) % quantizedForm(dtype).group !== 0)
    throw new ShapeError(operation, `the groups of ${dtype} do not divide the rows of ${showShape(shape)}`)
}

/** Ways to make tensors from nothing: what a device adds to the operations between them. */
export abstract class TensorFactory {
  /** A tensor with a copy of `data`: numbers and lists of them become f32. `shape` defaults to that of the lists. */
  tensor(data: HostArray | Nested, shape?: Shape, owner = "tensor"): Tensor {
    const { array, shape: own } = hostData(data)
    const full = shape ?? own
    checkShape("tensor", full)
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

  /** Sets every element of `tensor`'s memory to zero. */
  abstract clear(tensor: Tensor): void

  /** A tensor over fresh memory, whose contents are undefined. */
  empty(shape: Shape, dtype: DType = "f32", owner = "tensor"): Tensor {
    checkSpec("empty", shape, dtype)
    return this.wrap(this.allocate(bytesOf(dtype, sizeOf(shape)), owner), shape, dtype)
  }

  /** Zeros with memory of their own, unlike {@link constant}. */
  zeros(shape: Shape, dtype: DType = "f32", owner = "tensor"): Tensor {
    checkSpec("zeros", shape, dtype)
    const zeros = this.empty(shape, dtype, owner)
    this.clear(zeros)
    return zeros
  }

  ones(shape: Shape, dtype: FilledType = "f32"): Tensor {
    return this.full(shape, 1, dtype)
  }

  /** `value` everywhere, with memory of its own. Of a bool, what is not 0 is 1. */
  full(shape: Shape, value: number, dtype: FilledType = "f32"): Tensor {
    checkShape("full", shape)
    const size = sizeOf(shape)
    switch (dtype) {
      case "f16":
      case "bf16":
        return this.half(new Uint16Array(size).fill(halves[dtype](Float32Array.of(value))[0]!), shape, dtype)
      case "bool":
        return this.upload(new Uint32Array(size).fill(value === 0 ? 0 : 1), shape, dtype, "tensor")
      case "f32":
        return this.tensor(new Float32Array(size).fill(value), shape)
      case "i32":
      case "u32":
        checkNumber("full", value, dtype)
        return this.tensor(new arrays[dtype](size).fill(value), shape)
      default:
        throw new ShapeError("full", `${String(dtype satisfies never)} is not made of single numbers`)
    }
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
    checkShape("arange", [count])
    const numbers = Array.from({ length: count }, (_, i) => start + i * step)
    for (const number of numbers) checkNumber("arange", number, dtype)
    return this.tensor(arrays[dtype].from(numbers))
  }

  /** `count` numbers from `start` to `stop`, both included, at equal distances. */
  linspace(start: number, stop: number, count: number): Tensor {
    checkShape("linspace", [count])
    return this.tensor(
      Float32Array.from({ length: count }, (_, i) =>
        i > 0 && i === count - 1 ? stop : start + (i * (stop - start)) / Math.max(1, count - 1),
      ),
    )
  }

  /** 1 on the diagonal, 0 elsewhere: [rows, columns]. */
  eye(rows: number, columns = rows): Tensor {
    checkShape("eye", [rows, columns])
    const data = new Float32Array(rows * columns)
    for (let i = 0; i < Math.min(rows, columns); i++) data[i * columns + i] = 1
    return this.tensor(data, [rows, columns])
  }

  /** A tensor of f16 or bf16 from their bit patterns. */
  half(bits: Uint16Array<ArrayBuffer>, shape: Shape, dtype: HalfType, owner = "tensor"): Tensor {
    checkShape("half", shape)
    if (bits.length !== sizeOf(shape))
      throw new ShapeError("half", `${bits.length} elements do not fill ${showShape(shape)}`)
    if (bits.length % 2 === 0) return this.upload(bits, shape, dtype, owner)
    const padded = new Uint16Array(bits.length + 1)
    padded.set(bits)
    return this.upload(padded, shape, dtype, owner)
  }

  /** A tensor of a quantised dtype from its words, as `quantizedWords` gives them. */
  quantized(words: Uint32Array<ArrayBuffer>, shape: Shape, dtype: QuantizedType, owner = "tensor"): Tensor {
    checkShape("quantized", shape)
    const { group } = quantizedForm(dtype)
    if (sizeOf(shape) % group !== 0 || words.byteLength !== bytesOf(dtype, sizeOf(shape)))
      throw new ShapeError("quantized", `${words.length} words are not ${showShape(shape)} as ${dtype}`)
    return this.upload(words, shape, dtype, owner)
  }

  /** Normal deviates, a function of `seed` and the element's position alone. */
  normal(shape: Shape, options: { readonly seed: number; readonly mean?: number; readonly std?: number }): Tensor {
    checkShape("normal", shape)
    return this.tensor(normalArray(sizeOf(shape), options), shape)
  }

  /** Uniform deviates in [low, high), a function of `seed` and the element's position alone. */
  uniform(shape: Shape, options: { readonly seed: number; readonly low?: number; readonly high?: number }): Tensor {
    checkShape("uniform", shape)
    return this.tensor(uniformArray(sizeOf(shape), options), shape)
  }

  /** A scalar that needs no memory: kernels take it as a parameter. */
  abstract constant(value: number, dtype?: ComputeType): Tensor
}
