import { expect } from "vitest"

/** A dense row-major array in float64: what the tests compute the truth with, independently of the library. */
export interface Dense {
  readonly shape: readonly number[]
  readonly data: Float64Array
}

export const sizeOf = (shape: readonly number[]): number => shape.reduce((product, dim) => product * dim, 1)

export const dense = (shape: readonly number[], data: ArrayLike<number>): Dense => ({
  shape,
  data: Float64Array.from(data),
})

/** Uniform numbers in [0, 1), a function of the seed alone (mulberry32). */
export const randomNumbers = (seed: number): (() => number) => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Numbers in [low, high) that f32 represents. */
export const randomArray = (count: number, seed: number, low = -1, high = 1): Float32Array<ArrayBuffer> => {
  const next = randomNumbers(seed)
  return Float32Array.from({ length: count }, () => low + (high - low) * next())
}

/** Index along each axis of the element at `flat`. */
export const unravel = (shape: readonly number[], flat: number): number[] => {
  const index: number[] = []
  let rest = flat
  for (const dim of shape.toReversed()) {
    index.unshift(rest % dim)
    rest = Math.floor(rest / dim)
  }
  return index
}

/** The element of `array` that lies under `index` of a shape to which the array is broadcast. */
export const at = ({ shape, data }: Dense, index: readonly number[]): number => {
  const own = shape.length === 0 ? [] : index.slice(-shape.length)
  let flat = 0
  shape.forEach((dim, axis) => {
    flat = flat * dim + (dim === 1 ? 0 : own[axis]!)
  })
  return data[flat]!
}

/** Applies `fn` element by element, NumPy's broadcasting. */
export const map = (fn: (...operands: number[]) => number, ...operands: readonly Dense[]): Dense => {
  const rank = Math.max(...operands.map(({ shape }) => shape.length))
  const shape = Array.from({ length: rank }, (_, axis) => {
    const dims = operands.map((operand) => operand.shape[operand.shape.length - rank + axis] ?? 1)
    return dims.find((dim) => dim !== 1) ?? 1
  })
  const data = Float64Array.from({ length: sizeOf(shape) }, (_, flat) => {
    const index = unravel(shape, flat)
    return fn(...operands.map((operand) => at(operand, index)))
  })
  return { shape, data }
}

/** Folds `axis` with `fn`. */
export const fold = (array: Dense, axis: number, start: number, fn: (total: number, x: number) => number): Dense => {
  const shape = array.shape.toSpliced(axis, 1)
  const data = Float64Array.from({ length: sizeOf(shape) }, (_, flat) => {
    const index = unravel(shape, flat)
    let total = start
    for (let k = 0; k < array.shape[axis]!; k++) total = fn(total, at(array, index.toSpliced(axis, 0, k)))
    return total
  })
  return { shape, data }
}

/** Reorders axes. */
export const permute = (array: Dense, axes: readonly number[]): Dense => {
  const shape = axes.map((axis) => array.shape[axis]!)
  const data = Float64Array.from({ length: array.data.length }, (_, flat) => {
    const to = unravel(shape, flat)
    const from: number[] = []
    axes.forEach((axis, i) => {
      from[axis] = to[i]!
    })
    return at(array, from)
  })
  return { shape, data }
}

/** ∂f/∂x for every element of every input, by central differences in float64. */
export const centralDifferences = (
  f: (...inputs: Float64Array[]) => number,
  inputs: readonly Float64Array[],
  step = 1e-5,
): Float64Array[] => {
  const copies = inputs.map((input) => input.slice())
  return copies.map((copy) =>
    copy.map((x, i) => {
      copy[i] = x + step
      const above = f(...copies)
      copy[i] = x - step
      const below = f(...copies)
      copy[i] = x
      return (above - below) / (2 * step)
    }),
  )
}

export interface Tolerance {
  readonly abs: number
  readonly rel: number
}

/** Asserts |actual − expected| ≤ abs + rel · |expected| for every element; names the worst one. */
export const expectClose = (
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { abs, rel }: Tolerance = { abs: 1e-5, rel: 1e-5 },
  what = "value",
): void => {
  expect(actual.length, `number of elements of ${what}`).toBe(expected.length)
  let worst = { excess: 0, text: "" }
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i]!, expected[i]!]
    if (Object.is(a, e) || a === e) continue
    const ratio = Math.abs(a - e) / (abs + rel * Math.abs(e))
    const excess = Number.isNaN(ratio) ? Number.POSITIVE_INFINITY : ratio
    if (excess > worst.excess) worst = { excess, text: `${what}[${i}]: ${a} instead of ${e}` }
  }
  if (worst.excess > 1) expect.fail(`${worst.text} (${worst.excess.toPrecision(3)} × the tolerance)`)
}

/** Asserts that two f32 arrays are equal to the last bit. */
export const expectSameBits = (actual: ArrayLike<number>, expected: ArrayLike<number>, what = "value"): void => {
  expect(actual.length, `number of elements of ${what}`).toBe(expected.length)
  const bits = (array: ArrayLike<number>) => new Uint32Array(Float32Array.from(array).buffer)
  const [a, e] = [bits(actual), bits(expected)]
  const first = a.findIndex((word, i) => word !== e[i])
  if (first >= 0) expect.fail(`${what}[${first}]: ${actual[first]} is not the very number ${expected[first]}`)
}
