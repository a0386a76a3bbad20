import {
  checkDType,
  computeType,
  isHalf,
  isQuantized,
  showShape,
  sizeOf,
  type ComputeType,
  type DType,
  type HostArray,
  type Shape,
} from "../dtype.ts"
import { ShapeError, TensorError } from "../errors.ts"
import type { Gpu } from "../device/gpu.ts"
import { argReduce } from "../kernels/arg-reduce.ts"
import { crossEntropy, type CrossEntropyOptions } from "../kernels/cross-entropy.ts"
import { gather, indexSelect, scatter, scatterAdd } from "../kernels/gather.ts"
import type { MatmulOptions } from "../kernels/matmul/matmul.ts"
import { pack } from "../kernels/pack.ts"
import { quantize } from "../kernels/quantize.ts"
import { cumSum, type ScanOptions } from "../kernels/scan.ts"
import { softmax } from "../kernels/softmax.ts"
import { argSort, sort, topK, type Sorted, type SortOptions } from "../kernels/sort.ts"
import { broadcastShapes, type Axes } from "../ops/axes.ts"
import { matmul } from "../ops/matmul.ts"
import { integerRemainder } from "../ops/remainder.ts"
import { logSumExp, mean, norm, reduce, variance, type ReduceOptions, type VarianceOptions } from "../ops/reduce.ts"
import * as shapes from "../ops/shape.ts"
import type { Range } from "../ops/shape.ts"
import { mapTable, type MapName } from "../ops/table.ts"
import { Elementwise } from "./elementwise.ts"
import { Node, specOf, type Op, type Value } from "./node.ts"

/**
 * A value on the GPU, or the recipe for one: operations build a graph, and reading ({@link data}, {@link item}) or
 * compiling runs it.
 */
export class Tensor extends Elementwise {
  readonly gpu: Gpu
  readonly value: Value

  constructor(gpu: Gpu, value: Value) {
    super()
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
    if (this.size !== 1)
      throw new ShapeError("item", `needs one element, the tensor has shape ${showShape(this.shape)}`)
    return (await this.data())[0]!
  }

  /** Gives the memory back. A tensor that shares that of another, such as its reshape, leaves it to that one. */
  dispose(): void {
    const { node, output } = this.value
    if (!node.borrows) node.memory[output]?.release()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  override toString(): string {
    return `Tensor ${this.dtype} ${showShape(this.shape)}`
  }

  /** What `console.log` shows in Bun and Node: not the whole device. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString()
  }

  /**
   * The same values as another dtype: f32 → i32 or u32 truncates and saturates (NaN is 0), `bool` is 1 for all but 0, f16 and
   * bf16 round to nearest even, int8 and int4 to the nearest multiple of what the largest of their group needs. The
   * gradient passes between floating-point dtypes, as f32, but for quantised ones, which have none.
   */
  cast(dtype: DType): Tensor {
    checkDType("cast", dtype)
    if (dtype === this.dtype) return this
    if (isHalf(dtype)) return pack(this.cast("f32"), dtype)
    if (isQuantized(dtype)) return quantize(this.cast("f32"), dtype)
    return this.derive({ kind: "cast" }, [this], this.shape, dtype)
  }

  override remainder(other: Tensor | number): Tensor {
    if (computeType(this.dtype) === "f32") return super.remainder(other)
    const [dividend, divisor] = this.#alike("remainder", [this, other])
    return integerRemainder(dividend!, divisor!)
  }

  /** `value` in the shape and compute type of this tensor, without memory. */
  fullLike(value: number): Tensor {
    return this.gpu.constant(value, computeType(this.dtype), "fullLike").broadcastTo(this.shape)
  }
  zerosLike(): Tensor {
    return this.fullLike(0)
  }
  onesLike(): Tensor {
    return this.fullLike(1)
  }

  /** `ifTrue` where this is not 0, `ifFalse` elsewhere. The branches have one compute type, which is the result's. */
  where(ifTrue: Tensor | number, ifFalse: Tensor | number): Tensor {
    const mask = this.dtype === "f32" ? this : this.notEqual(0)
    const [a, b] = mask.#alike("where", [ifTrue, ifFalse])
    return mask.#apply("where", [mask, a!, b!], computeType(a!.dtype))
  }

  /** Reductions run over one axis, several, or all, in a fixed order: a tree of 64s. */
  sum(axes?: Axes, options?: ReduceOptions): Tensor {
    return reduce(this, "sum", axes, options)
  }
  mean(axes?: Axes, options?: ReduceOptions): Tensor {
    return mean(this, axes, options)
  }
  /** The largest element. Equal ones share the gradient. */
  max(axes?: Axes, options?: ReduceOptions): Tensor {
    return reduce(this, "max", axes, options)
  }
  min(axes?: Axes, options?: ReduceOptions): Tensor {
    return reduce(this, "min", axes, options)
  }
  prod(axes?: Axes, options?: ReduceOptions): Tensor {
    return reduce(this, "prod", axes, options)
  }
  var(axes?: Axes, options?: VarianceOptions): Tensor {
    return variance(this, axes, options)
  }
  std(axes?: Axes, options?: VarianceOptions): Tensor {
    return variance(this, axes, options, "std").sqrt()
  }
  /** Euclidean norm, √Σ x². */
  norm(axes?: Axes, options?: ReduceOptions): Tensor {
    return norm(this, axes, options)
  }
  /** log Σ eˣ, without overflow. */
  logSumExp(axes?: Axes, options?: ReduceOptions): Tensor {
    return logSumExp(this, axes, options)
  }
  /** 1 if any element is not 0, else 0, as f32. */
  any(axes?: Axes, options?: ReduceOptions): Tensor {
    return reduce(this.notEqual(0), "sum", axes, options, "any").greater(0)
  }
  /** 1 if no element is 0, else 0, as f32. */
  all(axes?: Axes, options?: ReduceOptions): Tensor {
    return reduce(this.equal(0), "sum", axes, options, "all").equal(0)
  }
  /** Index of the largest element along `axis`, or in the flattened tensor; the first of equals. i32. */
  argMax(axis?: number, options?: ReduceOptions): Tensor {
    return argReduce(this, "max", axis, options)
  }
  argMin(axis?: number, options?: ReduceOptions): Tensor {
    return argReduce(this, "min", axis, options)
  }
  /** Running sum along `axis`. */
  cumSum(axis: number, options?: ScanOptions): Tensor {
    return cumSum(this, axis, options)
  }

  /** The same elements in row-major order under another shape. One dimension may be −1. */
  reshape(shape: Shape): Tensor {
    return shapes.reshape(this, shape)
  }
  /** The axes `first` … `last`, by default all, as one. */
  flatten(first = 0, last = -1): Tensor {
    return shapes.flatten(this, first, last)
  }
  /** Drops axes of size 1: those named, or all of them. */
  squeeze(axes?: Axes): Tensor {
    return shapes.squeeze(this, axes)
  }
  /** Adds an axis of size 1 before `axis`; −1 adds it at the end. */
  unsqueeze(axis: number): Tensor {
    return shapes.unsqueeze(this, axis)
  }
  /** Repeats dimensions of size 1 (and missing leading ones) up to `shape`. */
  broadcastTo(shape: Shape): Tensor {
    return shapes.broadcastTo(this, shape)
  }
  /** Reorders the axes. Without argument: reverses them. */
  transpose(axes: readonly number[] = this.shape.map((_, axis) => this.shape.length - 1 - axis)): Tensor {
    return shapes.transpose(this, axes)
  }
  /** Takes part of each axis; see {@link Range}. `x.slice([1, -1], null, 0)` is NumPy's `x[1:-1, :, 0]`. */
  slice(...ranges: readonly Range[]): Tensor {
    return shapes.slice(this, ranges)
  }
  /** Reverses the order along `axes`, or all of them. */
  flip(axes?: Axes): Tensor {
    return shapes.flip(this, axes)
  }
  /** Moves element i of `axis` to i + `by`; what leaves at one end comes back at the other. */
  roll(by: number, axis: number): Tensor {
    return shapes.roll(this, by, axis)
  }
  /** Adds `widths[axis]` = [before, after] elements of `value` to each axis. */
  pad(widths: readonly (readonly [number, number])[], value = 0): Tensor {
    return shapes.pad(this, widths, value)
  }
  /** Parts along `axis`: of the sizes given, or all of one size (the last one smaller if need be). */
  split(sizes: number | readonly number[], axis = 0): readonly Tensor[] {
    return shapes.split(this, sizes, axis)
  }
  /** At most `count` parts of one size along `axis`, the last one smaller if need be. */
  chunk(count: number, axis = 0): readonly Tensor[] {
    return shapes.chunk(this, count, axis)
  }
  /** What lies at each index of `axis`, without that axis. */
  unbind(axis = 0): readonly Tensor[] {
    return shapes.unbind(this, axis)
  }
  /** The whole tensor `counts[axis]` times along each axis (NumPy's `tile`). */
  repeat(counts: readonly number[]): Tensor {
    return shapes.repeat(this, counts)
  }
  /** Each element `count` times in a row along `axis` (NumPy's `repeat`). */
  repeatInterleave(count: number, axis: number): Tensor {
    return shapes.repeatInterleave(this, count, axis)
  }
  /** The k-th diagonal of the last two axes. */
  diagonal(k = 0): Tensor {
    return shapes.diagonal(this, k)
  }
  /** The lower triangle of the last two axes, up to the k-th diagonal; 0 elsewhere. */
  tril(k = 0): Tensor {
    return shapes.triangle(this, true, k)
  }
  /** The upper triangle of the last two axes, from the k-th diagonal on; 0 elsewhere. */
  triu(k = 0): Tensor {
    return shapes.triangle(this, false, k)
  }

  /**
   * The elements along `axis` at `ids` (i32 or u32), in their shape: its other axes are at most as long as this tensor's, and
   * read from their start. An index that is none reads 0.
   */
  gather(axis: number, ids: Tensor): Tensor {
    return gather(this, axis, ids)
  }
  /** The slices of `axis` that `ids` (i32 or u32, any shape) names, in its shape. An index that is none reads 0. */
  indexSelect(axis: number, ids: Tensor): Tensor {
    return indexSelect(this, axis, ids)
  }
  /** 1 at the place that each element (i32 or u32) names on a new last axis of size `classes`, 0 elsewhere, as f32. */
  oneHot(classes: number): Tensor {
    const { dtype } = this
    if (dtype !== "i32" && dtype !== "u32")
      throw new ShapeError("oneHot", `needs i32 or u32, got ${dtype}: cast it first`)
    return this.unsqueeze(-1).equal(this.gpu.arange(classes, { dtype }))
  }
  /**
   * This tensor with `source`, a number or shaped like `ids` (or larger), in place of the elements along `axis` at `ids`; of
   * several for one place the last stays. An index that is none writes nothing.
   */
  scatter(axis: number, ids: Tensor, source: Tensor | number): Tensor {
    return scatter(this, axis, ids, source)
  }
  /** This tensor with `source` added to the elements along `axis` at `ids`, in order. */
  scatterAdd(axis: number, ids: Tensor, source: Tensor | number): Tensor {
    return scatterAdd(this, axis, ids, source)
  }
  /** The elements of `axis` in ascending order, and where they came from. Equal ones keep their order. */
  sort(axis = -1, options?: SortOptions): Sorted {
    return sort(this, axis, options)
  }
  argSort(axis = -1, options?: SortOptions): Tensor {
    return argSort(this, axis, options)
  }
  /** The `count` largest elements of `axis`, the largest first, and where they came from. */
  topK(count: number, axis = -1, options?: SortOptions): Sorted {
    return topK(this, count, axis, options)
  }

  /** eˣ / Σ eˣ along `axis`. */
  softmax(axis = -1): Tensor {
    return softmax(this, axis)
  }
  logSoftmax(axis = -1): Tensor {
    return softmax(this, axis, true)
  }
  /** −log softmax of the target of each row: this [..., C], targets i32 [...]; their mean, or see the options. */
  crossEntropy(targets: Tensor, options?: CrossEntropyOptions): Tensor {
    return crossEntropy(this, targets, options)
  }

  /**
   * Matrix product over the last two axes, either operand read transposed; axes before them broadcast. Each element is
   * one fma chain over ascending k.
   */
  matmul(other: Tensor, options: MatmulOptions = {}): Tensor {
    return matmul(this, other, options)
  }

  /** A tensor of this device computed by `op`. For the library's own operations. */
  derive(op: Op, inputs: readonly Tensor[], shape: Shape, dtype: DType = this.dtype): Tensor {
    for (const input of inputs)
      if (input.gpu !== this.gpu) throw new TensorError(op.kind, "operands live on different devices")
    return this.beside({
      node: new Node(
        op,
        inputs.map((input) => input.value),
        [{ shape, dtype }],
      ),
      output: 0,
    })
  }

  /** A tensor of this device for another value. For the library's own operations. */
  beside(value: Value): Tensor {
    return new Tensor(this.gpu, value)
  }

  protected override map(fn: MapName, ...others: readonly (Tensor | number)[]): Tensor {
    const operands = this.#alike(fn, [this, ...others])
    const type = computeType(this.dtype)
    const { types, mask } = mapTable[fn]
    if (type !== "f32" && types !== "any" && !(types === "signed" && type === "i32"))
      throw new ShapeError(fn, `is not defined for ${this.dtype}: cast it first`)
    return this.#apply(fn, operands, mask ? "f32" : type)
  }

  /** `operands` as tensors of one compute type, which numbers take from the tensors among them. */
  #alike(fn: MapName, operands: readonly (Tensor | number)[]): readonly Tensor[] {
    const types = new Set(operands.flatMap((x) => (typeof x === "number" ? [] : [computeType(x.dtype)])))
    if (types.size > 1) {
      const dtypes = new Set(operands.flatMap((x) => (typeof x === "number" ? [] : [x.dtype])))
      throw new ShapeError(fn, `${[...dtypes].join(" and ")} do not mix: cast one of them`)
    }
    const [type = "f32"] = types
    return operands.map((x) => (typeof x === "number" ? this.gpu.constant(x, type, fn) : x))
  }

  #apply(fn: MapName, operands: readonly Tensor[], type: ComputeType): Tensor {
    const numbers = operands.map(({ dtype, value: { node } }) =>
      node.op.kind === "constant" && dtype === "f32" ? node.op.value : undefined,
    )
    if (numbers.every((number) => number !== undefined)) return this.gpu.constant(mapTable[fn].reference(...numbers))
    const shape = broadcastShapes(
      fn,
      operands.map((operand) => operand.shape),
    )
    return this.derive({ kind: "map", fn }, operands, shape, type)
  }
}
