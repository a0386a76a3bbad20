import { describe, expect, test } from "vitest"
import { batchProblem, bucket, packBatch, packField, sequenceProblem, unpackField } from "../../src/webgpu/batch.ts"

const sequence = (promptLength: number, ...tokens: ReadonlyArray<number>) => ({
  tokens: Int32Array.from(tokens),
  promptLength,
})

describe("bucket", () => {
  const counts = Array.from({ length: 20_000 }, (_, count) => count)

  test("holds the count in a multiple of 16, of which at most a fifth is padding beyond 64", () => {
    const wrong = counts.filter((count) => {
      const size = bucket(count)
      return size < count || size % 16 !== 0 || bucket(size) !== size || (count > 64 && size - count > size / 5)
    })
    expect(wrong).toEqual([])
  })

  test("takes four values in each octave", () => {
    expect([...new Set(counts.map(bucket))].slice(0, 10)).toEqual([64, 80, 96, 112, 128, 160, 192, 224, 256, 320])
  })
})

describe("packBatch", () => {
  const batch = packBatch([sequence(2, 5, 6, 7, 8), sequence(1, 9, 10), sequence(3, 1, 2, 3, 4, 5)])

  test("lays prompts and completions end to end, without the tokens that predict nothing", () => {
    expect([...batch.tokens.subarray(0, 9)]).toEqual([5, 6, 7, 9, 1, 2, 3, 4, 0])
    expect([...batch.positions.subarray(0, 9)]).toEqual([0, 1, 2, 0, 0, 1, 2, 3, 0])
    expect(batch.tokens.length).toBe(64)
  })

  test("lets each token see its own sequence up to itself, and rows of padding sequences of their own", () => {
    const span = (row: number) => [...batch.spans.subarray(4 * row, 4 * row + 4)]
    expect([0, 2, 3, 7, 8, 15, 16, 63].map(span)).toEqual([
      [0, 0, 0, 1],
      [0, 0, 0, 3],
      [0, 0, 3, 1],
      [0, 0, 4, 4],
      [0, 0, 8, 1],
      [0, 0, 8, 8],
      [0, 0, 16, 1],
      [0, 0, 56, 8],
    ])
  })

  test("scores each completion token at the row before it", () => {
    expect(batch.lengths).toEqual([2, 1, 2])
    expect([...batch.targets.subarray(0, 6)]).toEqual([7, 8, 10, 4, 5, 0])
    expect([...batch.scored.subarray(0, 6)]).toEqual([1, 2, 3, 6, 7, 0])
  })

  test("packField and unpackField undo each other", () => {
    const values = [Float32Array.of(1, 2), Float32Array.of(3), Float32Array.of(4, 5)]
    const packed = packField(batch, values)
    expect([...packed.subarray(0, 6)]).toEqual([1, 2, 3, 4, 5, 0])
    expect(unpackField(batch, packed)).toEqual(values)
  })
})

test("a sequence or a field that does not fit is named", () => {
  expect(sequenceProblem([sequence(1, 1, 2, 3)], 3)).toBeUndefined()
  expect(sequenceProblem([sequence(1, 1, 2), sequence(3, 1, 2, 3)], 9)).toContain("sequence 1 needs a prompt")
  expect(sequenceProblem([sequence(0, 1, 2, 3)], 9)).toContain("sequence 0 needs a prompt")
  expect(sequenceProblem([sequence(1, 1, 2), sequence(1, 1, 2, 3)], 2)).toBe(
    "sequence 1 has 3 tokens, more than the model's context of 2",
  )
  const batch = { sequences: [sequence(1, 1, 2, 3)], fields: {}, weights: [new Float32Array(2)], temperature: 1 }
  expect(batchProblem(batch)).toBeUndefined()
  expect(batchProblem({ ...batch, fields: { advantages: [new Float32Array(1)] } })).toContain("advantages must have")
  expect(batchProblem({ ...batch, weights: [] })).toContain("weights must have")
})
