import type { MatmulChoice } from "../kernels/matmul/choice.ts"
import type { Kernel, Grid } from "../program/kernel.ts"
import type { Spec } from "./node.ts"
import type { Tensor } from "./tensor.ts"

/** Memory that a launch reads or writes: an input, an output or scratch of the operation being lowered. */
export interface Operand {
  readonly spec: Spec
}

/** Where an operation puts its launches. */
export interface Emitter {
  /** `flops`, where known, are what the launch computes: they are told by `profile`, nothing else. */
  readonly launch: (
    kernel: Kernel,
    operands: readonly Operand[],
    params: readonly number[],
    grid: Grid,
    flops?: number,
  ) => void
  /** Memory that lives for this operation only. */
  readonly scratch: (spec: Spec) => Operand
  /** Rows `start` … `start + count − 1` of an operand. `start` · row size must be a multiple of 64 elements. */
  readonly rows: (operand: Operand, start: number, count: number) => Operand
  readonly device: DeviceTraits
}

/** What kernels may depend on. Never the result, only its speed. */
export interface DeviceTraits {
  /** Lanes of a subgroup when that number is fixed and known, else 0: then subgroups are not used. */
  readonly subgroupSize: number
  /** WGSL tells an invocation which subgroup of its workgroup it is in. */
  readonly numbersSubgroups: boolean
  /** A driver that runs on the CPU: workgroup memory is slow there. */
  readonly isSoftware: boolean
  /** Storage buffers that one launch may bind. */
  readonly maxStorageBuffers: number
  /** Largest storage-buffer binding in bytes. */
  readonly maxBindingSize: number
  /** Kernels of the matrix product, and how fast they are here. */
  readonly matmul: MatmulChoice
  readonly forms: Forms
}

/** Forms of other kernels, those that are thought to be the fastest. All of a kernel's forms give the same bits. */
export interface Forms {
  /** A workgroup holds a row in registers where it fits, or every step reads the row again. */
  readonly rows: "held" | "walked"
  /** Attention in a subgroup's registers, from tiles in workgroup memory, or by an invocation for each row and head. */
  readonly attention: "subgroup" | "workgroup" | "invocation"
}

/** A hand-written operation: its kernels and its gradient, in one file. */
export interface FusedOp<Attributes> {
  readonly name: string
  /** Inputs that may be of a packed dtype; others are converted to f32 first. */
  readonly readsPacked?: readonly number[]
  /** Inputs that must be floating-point, whatever their storage: others are refused. */
  readonly floats?: readonly number[]
  /** Output specs. Throws a `ShapeError` for inputs that do not fit. */
  readonly infer: (inputs: readonly Spec[], attributes: Attributes) => readonly Spec[]
  readonly lower: (
    emit: Emitter,
    inputs: readonly Operand[],
    outputs: readonly Operand[],
    attributes: Attributes,
  ) => void
  /**
   * Output i is written over input `inPlace[i]`. If that input is an accumulator, `lower` adds to it; other
   * operations never see it half-way, since users of the output wait for it.
   */
  readonly inPlace?: (attributes: Attributes) => Readonly<Record<number, number>>
  /** Gradient of each input, `undefined` where there is none. `grads[i]` is undefined if output i was not used. */
  readonly backward?: (context: BackwardContext<Attributes>) => readonly (Tensor | undefined)[]
  /**
   * The same operation giving the sum of its only output and one more input, the last, of the same shape; or `undefined` if
   * it cannot. Gradients that meet are added this way, without a launch.
   */
  readonly adding?: (attributes: Attributes) => Attributes | undefined
  /** The same operation adding its only output to a target (its last input then), or `undefined` if it cannot. */
  readonly accumulating?: (attributes: Attributes) => Attributes | undefined
}

export interface BackwardContext<Attributes> {
  readonly inputs: readonly Tensor[]
  readonly outputs: readonly Tensor[]
  readonly grads: readonly (Tensor | undefined)[]
  readonly attributes: Attributes
  /** Which inputs want a gradient. */
  readonly needs: readonly boolean[]
}
