import { sameShape, showShape, sizeOf, type DType, type HostArray, type Shape } from "../dtype.ts"
import { ShapeError, TensorError } from "../errors.ts"
import type { Gpu } from "../device/gpu.ts"
import { matmul, type MatmulOptions } from "../kernels/matmul.ts"
import { mapTable, type MapName } from "../ops/table.ts"
import { Node, specOf, type Op, type ReduceName, type Value } from "./node.ts"

/** Shape of the result when `shapes` are broadcast together, NumPy's rules. */
const broadcastShapes = (operation: string, shapes: readonly Shape[]): Shape => {
  const rank = Math.max(...shapes.map((shape) => shape.length))
  return Array.from({ length: rank }, (_, axis) => {
    const dims = shapes.map((shape) => shape[axis - rank + shape.length] ?? 1)
    const dim = dims.find((d) => d !== 1) ?? 1
    if (dims.some((d) => d !== 1 && d !== dim))
      throw new ShapeError(operation, `shapes ${shapes.map(showShape).join(" and ")} do not broadcast`)
    return dim
  })
}

/**
 * A value on the GPU, or the recipe for one: operations build a graph, and reading ({@link data}, {@link item}) or
 * compiling runs it.
 */
export class Tensor {
  readonly gpu: Gpu
  readonly value: Value

  constructor(gpu: Gpu, value: Value) {
    this.gpu = gpu
    this.value = value
  }

  get shape(): Shape {
    return specOf(this.value).shape
  }
  get dtype(): DType {
    return specOf(this.value).dtype
  }
  get size(): number {
    return sizeOf(this.shape)
  }

  /** Computes the value if need be and copies it to the host. */
  data(): Promise<HostArray> {
    return this.gpu.read(this)
  }

  /** The one element of a tensor of size 1. */
  async item(): Promise<number> {
    if (this.size !== 1) throw new ShapeError("item", `needs one element, the tensor has shape ${showShape(this.shape)}`)
    return (await this.data())[0]!
  }

  /** Gives the memory back. Only for tensors that hold memory of their own. */
  dispose(): void {
    this.value.node.memory[this.value.output]?.release()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  add(other: Tensor | number): Tensor {
    return this.#map("add", other)
  }
  sub(other: Tensor | number): Tensor {
    return this.#map("sub", other)
  }
  mul(other: Tensor | number): Tensor {
    return this.#map("mul", other)
  }
  div(other: Tensor | number): Tensor {
    return this.#map("div", other)
  }
  minimum(other: Tensor | number): Tensor {
    return this.#map("minimum", other)
  }
  maximum(other: Tensor | number): Tensor {
    return this.#map("maximum", other)
  }
  /** `this` to the power of `exponent`; `this` must not be negative (WGSL's `pow`). */
  pow(exponent: Tensor | number): Tensor {
    return this.#map("pow", exponent)
  }
  clamp(low: number, high: number): Tensor {
    return this.maximum(low).minimum(high)
  }
  neg(): Tensor {
    return this.#map("neg")
  }
  exp(): Tensor {
    return this.#map("exp")
  }
  log(): Tensor {
    return this.#map("log")
  }
  sqrt(): Tensor {
    return this.#map("sqrt")
  }
  rsqrt(): Tensor {
    return this.#map("rsqrt")
  }
  abs(): Tensor {
    return this.#map("abs")
  }
  square(): Tensor {
    return this.#map("square")
  }
  tanh(): Tensor {
    return this.#map("tanh")
  }
  sigmoid(): Tensor {
    return this.#map("sigmoid")
  }
  silu(): Tensor {
    return this.#map("silu")
  }
  erf(): Tensor {
    return this.#map("erf")
  }
  /** Gaussian error linear unit, x · Φ(x) (D. Hendrycks and K. Gimpel, 2016). */
  gelu(): Tensor {
    return this.#map("gelu")
  }
  /** Its approximation by tanh: PyTorch's `gelu(approximate="tanh")`, Hugging Face's `gelu_new`. */
  geluTanh(): Tensor {
    return this.#map("geluTanh")
  }
  /** The same value, through which no gradient passes. */
  stopGradient(): Tensor {
    return this.#map("stopGradient")
  }
  /** Comparisons give 1 where they hold and 0 elsewhere, as f32, without gradient. */
  greater(other: Tensor | number): Tensor {
    return this.#map("greater", other)
  }
  less(other: Tensor | number): Tensor {
    return this.#map("less", other)
  }
  greaterEqual(other: Tensor | number): Tensor {
    return this.#map("greaterEqual", other)
  }
  lessEqual(other: Tensor | number): Tensor {
    return this.#map("lessEqual", other)
  }
  equal(other: Tensor | number): Tensor {
    return this.#map("equal", other)
  }
  /** `ifTrue` where this is not 0, `ifFalse` elsewhere. */
  where(ifTrue: Tensor | number, ifFalse: Tensor | number): Tensor {
    return this.#map("where", ifTrue, ifFalse)
  }

  /** Sum over `axis`, or over everything: blocks of 64 elements in order, then the blocks in order. */
  sum(axis?: number): Tensor {
    return this.#reduce("sum", axis)
  }
  mean(axis?: number): Tensor {
    const count = axis === undefined ? this.size : this.shape[this.#axis("mean", axis)]!
    return this.sum(axis).div(count)
  }
  max(axis?: number): Tensor {
    return this.#reduce("max", axis)
  }
  min(axis?: number): Tensor {
    return this.#reduce("min", axis)
  }

  /** The same elements in row-major order under another shape. One dimension may be −1. */
  reshape(shape: Shape): Tensor {
    const known = shape.reduce((product, dim) => (dim === -1 ? product : product * dim), 1)
    const full = shape.map((dim) => (dim === -1 ? this.size / known : dim))
    if (sizeOf(full) !== this.size || full.some((dim) => !Number.isInteger(dim)))
      throw new ShapeError("reshape", `${showShape(this.shape)} does not fit ${showShape(shape)}`)
    return sameShape(full, this.shape) ? this : this.derive({ kind: "reshape" }, [this], full)
  }

  /** Repeats dimensions of size 1 (and missing leading ones) up to `shape`. */
  broadcastTo(shape: Shape): Tensor {
    if (sameShape(shape, this.shape)) return this
    if (!sameShape(broadcastShapes("broadcastTo", [this.shape, shape]), shape))
      throw new ShapeError("broadcastTo", `${showShape(this.shape)} does not broadcast to ${showShape(shape)}`)
    const lead = shape.length - this.shape.length
    const own = rowMajor(this.shape)
    const strides = shape.map((_, axis) => (axis < lead || this.shape[axis - lead] === 1 ? 0 : own[axis - lead]!))
    return this.derive({ kind: "strided", strides }, [this], shape)
  }

  /** Reorders the axes. Without argument: reverses them. */
  transpose(axes: readonly number[] = this.shape.map((_, i) => this.shape.length - 1 - i)): Tensor {
    if ([...axes].sort((a, b) => a - b).some((axis, i) => axis !== i) || axes.length !== this.shape.length)
      throw new ShapeError("transpose", `axes [${axes.join(", ")}] do not permute ${showShape(this.shape)}`)
    const own = rowMajor(this.shape)
    return this.derive(
      { kind: "strided", strides: axes.map((axis) => own[axis]!) },
      [this],
      axes.map((axis) => this.shape[axis]!),
    )
  }

  /** Matrix product of two matrices, either read transposed. Each element is one fma chain over ascending k. */
  matmul(other: Tensor, options: MatmulOptions = {}): Tensor {
    return matmul(this, other, options)
  }

  /** A tensor of this device computed by `op`. For the library's own operations. */
  derive(op: Op, inputs: readonly Tensor[], shape: Shape, dtype: DType = this.dtype): Tensor {
    for (const input of inputs)
      if (input.gpu !== this.gpu) throw new TensorError(op.kind, "operands live on different devices")
    return new Tensor(
      this.gpu,
      { node: new Node(op, inputs.map((input) => input.value), [{ shape, dtype }]), output: 0 },
    )
  }

  /** A tensor of this device for another value. For the library's own operations. */
  beside(value: Value): Tensor {
    return new Tensor(this.gpu, value)
  }

  #map(fn: MapName, ...others: (Tensor | number)[]): Tensor {
    const operands = [this, ...others.map((other) => (typeof other === "number" ? this.gpu.constant(other) : other))]
    if (operands.some((operand) => operand.dtype !== "f32"))
      throw new ShapeError(fn, `needs f32 operands, got ${operands.map((operand) => operand.dtype).join(", ")}`)
    const numbers = operands.map(({ value }) => (value.node.op.kind === "constant" ? value.node.op.value : undefined))
    if (numbers.every((number) => number !== undefined)) return this.gpu.constant(mapTable[fn].reference(...numbers))
    return this.derive({ kind: "map", fn }, operands, broadcastShapes(fn, operands.map((operand) => operand.shape)))
  }

  #axis(operation: string, axis: number): number {
    const positive = axis < 0 ? axis + this.shape.length : axis
    if (!(positive in this.shape)) throw new ShapeError(operation, `${axis} is not an axis of ${showShape(this.shape)}`)
    return positive
  }

  #reduce(fn: ReduceName, axis?: number): Tensor {
    if (this.dtype !== "f32") throw new ShapeError(fn, `needs f32, got ${this.dtype}`)
    if (axis === undefined)
      return this.derive({ kind: "reduce", fn, outer: 1, length: this.size, inner: 1 }, [this], [])
    const at = this.#axis(fn, axis)
    const [outer, inner] = [sizeOf(this.shape.slice(0, at)), sizeOf(this.shape.slice(at + 1))]
    return this.derive(
      { kind: "reduce", fn, outer, length: this.shape[at]!, inner },
      [this],
      this.shape.toSpliced(at, 1),
    )
  }
}

/** Strides of a contiguous tensor, in elements. */
export const rowMajor = (shape: Shape): readonly number[] => {
  const strides: number[] = []
  let stride = 1
  for (const dim of shape.toReversed()) {
    strides.unshift(stride)
    stride *= dim
  }
  return strides
}

/** Gradient rule of an element-wise operation, or `undefined` if it has none. */
export const mapBackward = (fn: MapName) => mapTable[fn].backward
