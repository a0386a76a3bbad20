import { describe, expect, it } from "vitest"
import { mergeReports, splitBatch } from "../../src/programs/batches.ts"

describe("micro-batches", () => {
  it("hold every sequence once, with its data", () => {
    const rows = [1, 2, 3].map((n) => Float32Array.of(n))
    const batch = {
      sequences: [1, 2, 3].map((n) => ({ tokens: Int32Array.of(0, n), promptLength: 1 })),
      fields: { advantages: rows },
      weights: rows,
      temperature: 0.7,
    }
    const parts = splitBatch(batch, 2)
    expect(parts.map(({ sequences }) => sequences.length)).toEqual([2, 1])
    expect(parts.flatMap(({ sequences }) => sequences)).toEqual(batch.sequences)
    expect(parts.flatMap(({ fields }) => fields["advantages"])).toEqual(rows)
    expect(parts.flatMap(({ weights }) => weights)).toEqual(rows)
    expect(parts.map(({ temperature }) => temperature)).toEqual([0.7, 0.7])
  })

  it("report together what the whole batch would", () => {
    const report = (loss: number, tokens: number, value: number) => ({
      loss,
      tokens,
      metrics: {
        entropy: { value, reduce: "mean" },
        worst: { value, reduce: "max" },
        best: { value, reduce: "min" },
      } as const,
    })
    expect(mergeReports([report(1, 3, 2), report(0.5, 1, 6), report(0, 0, Number.NaN)])).toEqual({
      loss: 1.5,
      tokens: 4,
      metrics: {
        entropy: { value: 3, reduce: "mean" },
        worst: { value: 6, reduce: "max" },
        best: { value: 2, reduce: "min" },
      },
    })
    expect(mergeReports([])).toEqual({ loss: 0, tokens: 0, metrics: {} })
  })
})
