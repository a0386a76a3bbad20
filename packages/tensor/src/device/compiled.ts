import { Tensor } from "../graph/tensor.ts"

/** What a compiled function may return. */
export type Outputs = Tensor | readonly Tensor[] | Readonly<Record<string, Tensor>>

export interface Explanation {
  /** Kernel launches of one call. */
  readonly launches: number
  readonly kernels: readonly string[]
  /** Bytes of intermediates after planning. */
  readonly workspaceBytes: number
}

export interface Compiled<Args extends readonly Tensor[], Result> {
  (...inputs: Args): Result
  /** The kernels that a call with these inputs launches. */
  readonly explain: (...inputs: Args) => Explanation
  /** Drops the recorded programs. */
  readonly dispose: () => void
}

/** The tensors among `outputs`, in a fixed order. */
export const listOutputs = (outputs: Outputs): readonly Tensor[] =>
  outputs instanceof Tensor ? [outputs] : Object.values(outputs)

/** `tensors` in the form in which a function returned its outputs. */
export const rebuildOutputs = <Result extends Outputs>(shape: Result, tensors: readonly Tensor[]): Result => {
  if (shape instanceof Tensor) return tensors[0] as unknown as Result
  if (Array.isArray(shape)) return tensors as unknown as Result
  return Object.fromEntries(Object.keys(shape).map((key, i) => [key, tensors[i]!])) as unknown as Result
}
