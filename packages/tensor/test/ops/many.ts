import { valueAndGrad, type Gpu, type Tensor } from "../../src/index.ts"
import type { Differentiable } from "../gradient.ts"
import { centralDifferences, expectClose, randomArray } from "../reference.ts"

/** A case of {@link expectAll}; without gradient where `grad` is false. */
export interface Case extends Omit<Differentiable, "grad"> {
  readonly grad?: Differentiable["grad"] | false
}

/**
 * Checks every case's value against its reference, and its gradient, through Σ r · fn(params) for random r, against
 * central differences of the reference. All of them run as one program, with one wait.
 */
export const expectAll = async (gpu: Gpu, cases: Readonly<Record<string, Case>>): Promise<void> => {
  const pending = Object.entries(cases).map(([name, { params, fn, reference, value, grad }]) => {
    const inputs = params.map(({ data }) => Float64Array.from(data))
    const expected = Float64Array.from(reference(...inputs))
    const tensors = params.map(({ shape, data }) => gpu.tensor(data, shape))
    const weights = randomArray(expected.length, 99)
    let output: Tensor | undefined
    const weighted = (...args: Tensor[]) => {
      output = fn(...args)
      return output.mul(gpu.tensor(weights, output.shape)).sum()
    }
    const grads = grad === false ? [] : valueAndGrad(weighted, tensors).grads
    output ??= fn(...tensors)
    const functional = (...args: Float64Array[]) =>
      Float64Array.from(reference(...args)).reduce((sum, y, i) => sum + weights[i]! * y, 0)
    const gradients = grad === false ? [] : centralDifferences(functional, inputs)
    const check = ([actual, ...actualGrads]: readonly ArrayLike<number>[]) => {
      expectClose(actual!, expected, value, name)
      gradients.forEach((gradient, i) =>
        expectClose(actualGrads[i]!, gradient, grad || { abs: 1e-4, rel: 1e-4 }, `${name}: gradient ${i}`),
      )
    }
    return { outputs: [output, ...grads], check }
  })
  const arrays = await gpu.readAll(pending.flatMap(({ outputs }) => outputs))
  let start = 0
  for (const { outputs, check } of pending) {
    check(arrays.slice(start, start + outputs.length))
    start += outputs.length
  }
}
