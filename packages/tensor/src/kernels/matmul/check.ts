import { hostArray, isHalf, isQuantized, quantizedForm, storedArray, type DType } from "../../dtype.ts"
import { mapTable } from "../../ops/table.ts"
import type { CheckedBuffer, KernelCheck } from "../../program/kernel.ts"
import type { Candidate } from "./choice.ts"
import { panelPlaces, panelSizes } from "./panels.ts"
import { strides } from "./plain.ts"
import type { Problem } from "./problem.ts"

/** Fewest steps along k: several rounds of every kernel, and a rest. */
const fewestSteps = 19

/** The smallest number above `limit` that leaves the rest of `like` by 4, or that `group` divides. */
const after = (limit: number, like: number, group: number): number => {
  if (group > 1) return (Math.floor(limit / group) + 1) * group
  return limit + 1 + ((((like - limit - 1) % 4) + 4) % 4)
}

const commonMultiple = (a: number, b: number): number => {
  let multiple = a
  while (multiple % b !== 0) multiple += a
  return multiple
}

/** Consecutive elements that must lie in one row. */
const groupOf = (dtype: DType): number => (isQuantized(dtype) ? quantizedForm(dtype).group : 1)

/** A small problem for the same kernel as `problem`: more than one tile in each direction, and none of them whole. */
export const smallProblem = ({ rows, columns }: Candidate, problem: Problem): Problem => {
  const { layout, M, N, K, batch, gate, stored } = problem
  const [a, b] = [groupOf(stored?.a ?? "f32"), groupOf(stored?.b ?? "f32")]
  const small = {
    M: after(rows, M, layout === "tn" ? a : 1),
    N: after(columns, N, commonMultiple(layout === "nt" ? 1 : b, gate ? 8 : 1)),
    K: after(fewestSteps, K, commonMultiple(layout === "tn" ? 1 : a, layout === "nt" ? b : 1)),
  }
  return { ...problem, ...small, ...(batch && { batch: { ...batch, count: 2 } }) }
}

/** Numbers of which every product, and every sum of a float32 and one, is exact in a double. */
const numbers = (seed: number): ((digits: number) => number) => {
  let state = seed
  return (digits) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return ((state >>> 8) % (2 ** (digits + 1) - 1)) / 2 ** digits - 1
  }
}

/** A matrix as it is stored, and the numbers that it stands for. */
interface Operand {
  readonly stored: ArrayBuffer
  readonly values: Float32Array
}

const operand = (dtype: DType, count: number, seed: number): Operand => {
  const next = numbers(seed)
  if (isQuantized(dtype)) {
    const { group, words, headWords } = quantizedForm(dtype)
    const stored = new ArrayBuffer((count / group) * words * 4)
    const [floats, whole] = [new Float32Array(stored), new Uint32Array(stored)]
    for (let word = 0; word < whole.length; word++) {
      if (word % words < headWords) floats[word] = next(6)
      else whole[word] = Math.floor((next(16) + 1) * 2 ** 31)
    }
    return { stored, values: hostArray(dtype, stored) as Float32Array }
  }
  // Those of half a word have no more digits.
  const values = Float32Array.from({ length: count }, () => next(isHalf(dtype) ? 7 : 16))
  const { buffer, byteOffset, byteLength } = isHalf(dtype) ? storedArray(dtype, values) : values
  return { stored: buffer.slice(byteOffset, byteOffset + byteLength), values }
}

/** Where A's element (m, k) and B's element (k, n) lie. */
const rowPlaces = (problem: Problem) => {
  const [am, ak, bk, bn] = strides(problem)
  return { a: (m: number, k: number) => m * am + k * ak, b: (k: number, n: number) => k * bk + n * bn }
}

/** What `candidate` must give for a problem of which it has the kernel: each output one chain of fma over ascending k. */
export const matmulCheck = (candidate: Candidate, problem: Problem): KernelCheck => {
  const small = smallProblem(candidate, problem)
  const { layout, epilogue, M, N, K, batch, gate, stored } = small
  const { kernel, params, grid } = candidate.launch(small)
  const count = batch?.count ?? 1
  const size = layout === "panels" ? panelSizes(small, candidate) : { a: M * K, b: N * K }
  const [aStep, bStep] = [batch?.sharedA ? 0 : size.a, batch?.sharedB ? 0 : size.b]
  const a = operand(stored?.a ?? "f32", (aStep === 0 ? 1 : count) * size.a, 1)
  const b = operand(stored?.b ?? "f32", (bStep === 0 ? 1 : count) * size.b, 2)
  const other = operand("f32", count * M * N, 3)
  const place = layout === "panels" ? panelPlaces(small, candidate) : rowPlaces(small)
  const chains = (round: (product: number) => number): Float32Array =>
    Float32Array.from({ length: count * M * N }, (_, i) => {
      const [n, m, product] = [i % N, Math.floor(i / N) % M, Math.floor(i / (N * M))]
      const [valueA, valueB] = [
        (k: number) => a.values[product * aStep + place.a(m, k)]!,
        (k: number) => b.values[product * bStep + place.b(k, n)]!,
      ]
      let sum = epilogue === "accumulate" ? other.values[i]! : 0
      for (let k = 0; k < K; k++) sum = Math.fround(sum + round(valueA(k) * valueB(k)))
      return epilogue === "residual" ? sum + other.values[i]! : sum
    })
  const fused = chains((product) => product)
  const roundedFirst = chains(Math.fround)
  const buffers: CheckedBuffer[] = [{ before: a.stored }, { before: b.stored }]
  if (epilogue === "residual") buffers.push({ before: other.stored })
  const nothing = new ArrayBuffer(fused.byteLength)
  buffers.push({ before: epilogue === "accumulate" ? other.stored : nothing, after: { fused, roundedFirst } })
  if (gate) {
    const act = mapTable[gate].reference
    const gated = Float32Array.from({ length: (M * N) / 2 }, (_, i) => {
      const at = Math.floor(i / (N / 2)) * N + (i % (N / 2))
      return act(fused[at]!) * fused[at + N / 2]!
    })
    // The exponential function of a GPU is not that of the host.
    const after = { fused: gated, roundedFirst: gated, tolerance: 1e-4 }
    buffers.push({ before: new ArrayBuffer(gated.byteLength), after })
  }
  return { kernel: kernel.name, candidate: candidate.id, params, grid, buffers }
}
