import { expect, test } from "vitest"
import { candidatesFor, choiceOf, chooseMatmul } from "../../src/kernels/matmul/choice.ts"
import { knownRatings } from "../../src/kernels/matmul/ratings.ts"
import { testDevice } from "../device.ts"

const gpu = await testDevice()

test.each([
  [32 * 1024, "subgroup of 8: 32×64 by 2, memory"],
  [0, "subgroup of 8: 32×64 by 2, memory"],
  [64 * 1024, "subgroup of 8: 48×64 by 4, memory"],
])("with a cache of %i bytes for instructions lavapipe multiplies by the tile %s", (instructionCache, tile) => {
  const adapter = { ...gpu.adapter, kind: "lavapipe", processor: { model: "a CPU", instructionCache } } as const
  const candidates = candidatesFor(adapter, 8)
  const choice = choiceOf(candidates, knownRatings(adapter, candidates, 2)!)
  const problem = { layout: "nn", epilogue: "store", M: 1024, N: 1024, K: 1024 } as const
  expect(chooseMatmul(problem, choice).candidate.id).toBe(tile)
})

test("of subgroups that were not measured nothing is known", () => {
  const adapter = { ...gpu.adapter, kind: "lavapipe" } as const
  expect(knownRatings(adapter, candidatesFor(adapter, 16), 2)).toBeUndefined()
  expect(knownRatings({ ...adapter, kind: "gpu" }, candidatesFor(adapter, 8), 2)).toBeUndefined()
})
