import type { Storage } from "../device/storage.ts"
import type { DType, Shape } from "../dtype.ts"
import type { MapName } from "../ops/table.ts"
import type { FusedOp } from "./fused-op.ts"
import type { Tensor } from "./tensor.ts"

/** Shape and element type of one value. */
export interface Spec {
  readonly shape: Shape
  readonly dtype: DType
}

/** What a node computes. The union is closed: the lowering handles each kind and no other. */
export type Op =
  /** Memory that already holds the value; `from` names the compiled function that returned it. */
  | { readonly kind: "leaf"; readonly from?: string | undefined }
  /** An argument of a compiled function. */
  | { readonly kind: "input"; readonly index: number }
  /** One number, wherever it is read. */
  | { readonly kind: "constant"; readonly value: number }
  /** An element-wise row of the operation table. */
  | { readonly kind: "map"; readonly fn: MapName }
  /** The same values as another dtype. */
  | { readonly kind: "cast" }
  /** The elements of the first input under another shape. With a rule of its own, its gradient skips that input. */
  | { readonly kind: "reshape"; readonly gradient?: GradientRule }
  /** Elements read in another order: slices, flips, permutations, broadcasts. */
  | ({ readonly kind: "view" } & View)
  /** Elements spread out, `fill` in between and around. */
  | ({ readonly kind: "pad" } & Padding)
  /** Reduces the middle of [outer, length, inner]. */
  | {
      readonly kind: "reduce"
      readonly fn: ReduceName
      readonly outer: number
      readonly length: number
      readonly inner: number
    }
  /** A hand-written kernel. */
  | { readonly kind: "fused"; readonly op: FusedOp<never>; readonly attributes: unknown }
  /** target += value, in place. */
  | { readonly kind: "accumulate" }

/** Gradients of `inputs` (all but the first of the node) from that of the output; `undefined` where there is none. */
export type GradientRule = (context: {
  readonly grad: Tensor
  readonly output: Tensor
  readonly inputs: readonly Tensor[]
}) => readonly (Tensor | undefined)[]

export type ReduceName = "sum" | "max" | "min" | "prod"

/** Which element of a source each element of a view is. */
export interface View {
  /** For each axis of the source: the index at which the view begins. */
  readonly start: readonly number[]
  /** For each axis of the view: the axis of the source it runs along and the length of a step, or none if it repeats. */
  readonly axes: readonly ({ readonly axis: number; readonly step: number } | undefined)[]
}

/** Where each element of a source goes: index i of an axis to low + i · step. */
export interface Padding {
  readonly low: readonly number[]
  readonly step: readonly number[]
  /** Every other element. */
  readonly fill: number
}

/** One output of a node. */
export interface Value {
  readonly node: Node
  readonly output: number
}

let created = 0

/** Every node made from now on has this id or a larger one. */
export const nextNodeId = (): number => created

/** A step of a computation that has not happened yet, or ({@link storages}) has. */
export class Node {
  /** Rises with creation: inputs always have smaller ids than their users. */
  readonly id = created++
  /** The memory of each output that is there. */
  readonly memory: (Storage | undefined)[] = []
  /** The memory is that of another node, whose elements these are under another shape. */
  borrows = false
  #op: Op
  #inputs: readonly Value[]

  constructor(
    op: Op,
    inputs: readonly Value[],
    readonly specs: readonly Spec[],
  ) {
    this.#op = op
    this.#inputs = inputs
  }

  get op(): Op {
    return this.#op
  }

  get inputs(): readonly Value[] {
    return this.#inputs
  }

  /** The memory of all outputs once it is there. */
  get storages(): readonly Storage[] | undefined {
    return this.specs.every((_, output) => this.memory[output]) ? (this.memory as Storage[]) : undefined
  }

  /**
   * Lets go of what the value was computed from, once all of it is there: the node is a leaf from then on. For values
   * through which no gradient goes, so that a loop that goes on from its own result does not keep its whole past.
   */
  forget(): void {
    if (!this.storages) return
    this.#op = { kind: "leaf" }
    this.#inputs = []
  }
}

export const specOf = (value: Value): Spec => value.node.specs[value.output]!
