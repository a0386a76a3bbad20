import { valueAndGrad, type Gpu, type Tensor } from "../src/index.ts"
import { centralDifferences, expectClose, randomArray, sizeOf, type Tolerance } from "./reference.ts"

export interface Param {
  readonly shape: readonly number[]
  readonly data: Float32Array<ArrayBuffer>
}

/** Random parameter of a shape. */
export const param = (shape: readonly number[], seed: number, low = -1, high = 1): Param => ({
  shape,
  data: randomArray(sizeOf(shape), seed, low, high),
})

export interface Differentiable {
  readonly params: readonly Param[]
  /** The function under test. */
  readonly fn: (...params: Tensor[]) => Tensor
  /** The same in float64. */
  readonly reference: (...params: Float64Array[]) => ArrayLike<number>
  readonly value?: Tolerance
  readonly grad?: Tolerance
}

/**
 * Checks `fn` against `reference`, and its gradient, through Σ r · fn(params) for random r, against central
 * differences of the reference.
 */
export const expectDifferentiable = async (
  gpu: Gpu,
  { params, fn, reference, value, grad = { abs: 1e-4, rel: 1e-4 } }: Differentiable,
): Promise<void> => {
  const inputs = params.map(({ data }) => Float64Array.from(data))
  const expected = Float64Array.from(reference(...inputs))
  const tensors = params.map(({ shape, data }) => gpu.tensor(data, shape))
  const weights = randomArray(expected.length, 99)
  let output: Tensor | undefined
  const { grads } = valueAndGrad((...args) => {
    output = fn(...args)
    return output.mul(gpu.tensor(weights, output.shape)).sum()
  }, tensors)
  const [actual, ...actualGrads] = await gpu.readAll([output!, ...grads])
  expectClose(actual!, expected, value)
  const functional = (...args: Float64Array[]) => {
    const y = reference(...args)
    let sum = 0
    for (let i = 0; i < y.length; i++) sum += weights[i]! * y[i]!
    return sum
  }
  centralDifferences(functional, inputs).forEach((gradient, i) =>
    expectClose(actualGrads[i]!, gradient, grad, `gradient ${i}`),
  )
}
