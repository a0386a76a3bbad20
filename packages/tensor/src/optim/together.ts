import { TensorError } from "../errors.ts"
import type { ValueAndGrad } from "../graph/autograd.ts"
import type { Tensor } from "../graph/tensor.ts"
import type { Optimizer } from "./optimizer.ts"

export interface Together {
  readonly params: readonly Tensor[]
  /** One step of each at its own learning rate; gives back the value that was differentiated. */
  readonly step: (result: ValueAndGrad) => Tensor
}

/** Several optimisers, each with parameters of its own, as one: gradients come in the order of `params`. */
export const together = (...optimizers: readonly Optimizer[]): Together => {
  const params = optimizers.flatMap((optimizer) => optimizer.params)
  if (new Set(params.map(({ value }) => value.node)).size < params.length)
    throw new TensorError("together", "a parameter is given to two optimisers")
  return {
    params,
    step: ({ value, grads }) => {
      value.gpu.pin([value, ...grads])
      let start = 0
      for (const optimizer of optimizers) {
        const end = start + optimizer.params.length
        optimizer.step({ value, grads: grads.slice(start, end) })
        start = end
      }
      return value
    },
  }
}
