import { describe, expect, it } from "vitest"
import { countBatch, tokenWeights } from "../src/index.ts"

const weigh = (lossType: "dapo" | "grpo" | "dr_grpo", masks: ReadonlyArray<ReadonlyArray<number>>) =>
  masks.map((mask) => [...tokenWeights(lossType, mask, countBatch(masks), 10)].map((x) => Math.round(x * 1e6) / 1e6))

describe("token weights", () => {
  const masks = [
    [1, 1, 1],
    [1, 0],
  ]

  it("dapo: every token of the batch counts the same", () => {
    expect(weigh("dapo", masks)).toEqual([
      [0.25, 0.25, 0.25],
      [0.25, 0],
    ])
  })

  it("grpo: every sequence counts the same", () => {
    expect(weigh("grpo", masks)).toEqual([
      [0.166667, 0.166667, 0.166667],
      [0.5, 0],
    ])
  })

  it("dr_grpo: a token counts the same in any batch of as many sequences", () => {
    expect(weigh("dr_grpo", masks)).toEqual([
      [0.05, 0.05, 0.05],
      [0.05, 0],
    ])
  })

  it("a masked sequence has no weight but still counts as one", () => {
    expect(weigh("grpo", [[1], [0]])).toEqual([[0.5], [0]])
    expect(weigh("dapo", [[0, 0]])).toEqual([[0, 0]])
    expect(weigh("grpo", [[], [1]])).toEqual([[], [0.5]])
  })
})
