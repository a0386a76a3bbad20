import { expect, test } from "vitest"
import { candidatesFor, choiceOf, chooseMatmul, panelsFirst } from "../../src/kernels/matmul/choice.ts"
import { knownRatings, panelsFor } from "../../src/kernels/matmul/ratings.ts"
import { untuned } from "../../src/device/traits.ts"
import { testDevice } from "../device.ts"

const gpu = await testDevice()

test.each([
  [32 * 1024, "subgroup of 8: 32×64 by 2, memory", "subgroup of 8: 32×64 by 2, memory"],
  [0, "subgroup of 8: 32×64 by 2, memory", "subgroup of 8: 32×64 by 2, memory"],
  [64 * 1024, "subgroup of 8: 48×64 by 4, memory", "subgroup of 8: 64×64 by 2, memory"],
])("with a cache of %i bytes for instructions lavapipe multiplies by the tile %s", (instructionCache, tile, panels) => {
  const adapter = { ...gpu.adapter, kind: "lavapipe", processor: { model: "a CPU", instructionCache } } as const
  const candidates = candidatesFor(adapter, 8)
  const ratings = knownRatings(adapter, candidates, 2)!
  const choice = choiceOf(candidates, ratings)
  const problem = { layout: "nn", epilogue: "store", M: 1024, N: 1024, K: 1024 } as const
  expect(chooseMatmul(problem, choice).candidate.id).toBe(tile)
  const laidOut = panelsFirst(problem, choiceOf(candidates, ratings, panelsFor(adapter, 8, ratings)))
  expect(laidOut?.candidate.id).toBe(`panels, ${panels}`)
})

test("of subgroups that were not measured nothing is known", () => {
  const adapter = { ...gpu.adapter, kind: "lavapipe" } as const
  expect(knownRatings(adapter, candidatesFor(adapter, 16), 2)).toBeUndefined()
  expect(knownRatings({ ...adapter, kind: "gpu" }, candidatesFor(adapter, 8), 2)).toBeUndefined()
})

test.each([
  [true, 8, ["subgroup_id"], { rows: "held", attention: "subgroup" }],
  [true, 8, [], { rows: "walked", attention: "subgroup" }],
  [true, 4, ["subgroup_id"], { rows: "walked", attention: "subgroup" }],
  [true, 16, ["subgroup_id"], { rows: "walked", attention: "invocation" }],
  [false, 32, [], { rows: "held", attention: "workgroup" }],
])("software: %s, subgroups of %i, language %j: forms %j", (isSoftware, lanes, languageFeatures, forms) => {
  const sizes = { subgroupMinSize: lanes, subgroupMaxSize: lanes }
  expect(untuned({ ...gpu.adapter, isSoftware, ...sizes, languageFeatures }, []).forms).toEqual(forms)
})
