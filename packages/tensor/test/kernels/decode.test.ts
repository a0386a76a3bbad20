import { describe, expect, test } from "vitest"
import { advanceDecoding, ShapeError, type DecodeState, type Tensor } from "../../src/index.ts"
import { testDevice } from "../device.ts"

const gpu = await testDevice()
const integers = (values: readonly number[], shape?: readonly number[]) => gpu.tensor(new Int32Array(values), shape)

/** Three completions of at most three tokens: one fresh, one about to reach its limit of two, one that has stopped. */
const start = (): DecodeState => ({
  tokens: integers([1, 2, 3]),
  positions: integers([10, 20, 30]),
  rows: integers([100, 200, 300]),
  spans: integers([0, 10, 100, 11, 0, 19, 199, 21, 5, 6, 7, 8], [3, 4]),
  keys: gpu.tensor(new Uint32Array([7, 8, 9, 0, 7, 8, 10, 1, 7, 8, 11, 2]), [3, 4]),
  lengths: integers([0, 1, 2]),
  limits: integers([3, 2, -2]),
  completions: integers([0, 0, 0, 40, 0, 0, 50, 51, 0], [3, 3]),
  logProbs: gpu.tensor([0, 0, 0, -4, 0, 0, -5, -5.1, 0], [3, 3]),
})

const read = async (state: DecodeState) => {
  const names = Object.keys(state) as (keyof DecodeState)[]
  const values = await gpu.readAll(names.map((name) => state[name]))
  return Object.fromEntries(names.map((name, i) => [name, [...values[i]!]])) as Record<keyof DecodeState, number[]>
}

describe("advanceDecoding", () => {
  test("appends to completions that go on, and moves on those that are not finished by it", async () => {
    const state = start()
    advanceDecoding(state, integers([60, 61, 62]), gpu.tensor([-0.5, -0.25, -0.125]), integers([99]))
    const before = await read(start())
    expect(await read(state)).toEqual({
      ...before,
      tokens: [60, 2, 3],
      positions: [11, 20, 30],
      rows: [101, 200, 300],
      spans: [0, 10, 100, 12, ...before.spans.slice(4)],
      keys: [7, 8, 9, 1, ...before.keys.slice(4)],
      lengths: [1, 2, 2],
      completions: [60, 0, 0, 40, 61, 0, 50, 51, 0],
      logProbs: [-0.5, 0, 0, -4, -0.25, 0, ...before.logProbs.slice(6)],
    })
  })

  test("ends a completion that drew a stop token, and keeps the token", async () => {
    const state = start()
    advanceDecoding(state, integers([99, 98, 99]), gpu.tensor([-1, -2, -3]), integers([98, 99]))
    const { lengths, limits, completions, positions } = await read(state)
    expect({ lengths, limits, positions }).toEqual({
      lengths: [1, 2, 2],
      limits: [-1, -2, -2],
      positions: [10, 20, 30],
    })
    expect(completions).toEqual([99, 0, 0, 40, 98, 0, 50, 51, 0])
  })

  test("recorded after a draw, uses the state from before it", async () => {
    const state = start()
    const step = gpu.compile((next: Tensor, logProbs: Tensor) => {
      const positions = state.positions.reshape([3, 1])
      advanceDecoding(state, next, logProbs, integers([99]))
      return { before: positions }
    })
    for (let i = 0; i < 2; i++) step(integers([60 + i, 70, 80]), gpu.tensor([-1, -1, -1]))
    const { lengths, completions } = await read(state)
    expect(lengths).toEqual([2, 2, 2])
    expect(completions.slice(0, 3)).toEqual([60, 61, 0])
  })

  test("needs integers", () => {
    expect(() => advanceDecoding(start(), gpu.tensor([1, 2, 3]), gpu.tensor([0, 0, 0]), integers([9]))).toThrow(
      ShapeError,
    )
  })
})
