import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import length from "../src/index.ts"

const score = (options: unknown, tokens: number, completion = "") =>
  Effect.gen(function* () {
    const reward = yield* (yield* length.configure(options))({ directory: "/", runDirectory: "/" })
    return yield* reward.score({
      prompt: "",
      completion,
      completionTokens: new Int32Array(tokens),
      columns: {},
      finishReason: "stop",
      maxCompletionLength: 64,
    })
  }).pipe(Effect.scoped)

describe("soft overlong punishment", () => {
  // 50, 90 and 110 are the cases of TRL's own test of `get_soft_overlong_punishment(100, 20)`; the others are its corners.
  const cases: ReadonlyArray<[tokens: number, reward: number]> = [
    [50, 0],
    [80, 0],
    [90, -0.5],
    [100, -1],
    [110, -1],
  ]
  for (const [tokens, reward] of cases) {
    it.effect(`${tokens} tokens of 100, the last 20 on the slope: ${reward}`, () =>
      Effect.map(score({ maxLength: 100, cache: 20 }, tokens), (found) => expect(found).toBe(reward)),
    )
  }

  it.effect("is a step without a slope", () =>
    Effect.gen(function* () {
      expect(yield* score({ maxLength: 10, cache: 0 }, 10)).toBe(0)
      expect(yield* score({ maxLength: 10, cache: 0 }, 11)).toBe(-1)
    }),
  )

  it.effect("counts characters if asked to, and an emoji as one", () =>
    Effect.gen(function* () {
      const options = { maxLength: 4, cache: 2, unit: "characters" }
      expect(yield* score(options, 99, "ab")).toBe(0)
      expect(yield* score(options, 99, "ab🙂")).toBe(-0.5)
      expect(yield* score(options, 0, "abcde")).toBe(-1)
    }),
  )

  it.effect("refuses a slope longer than the limit", () =>
    Effect.map(Effect.flip(length.configure({ maxLength: 10, cache: 11 })), ([problem]) =>
      expect(problem?.message).toBe(`Expected "cache" to be at most "maxLength"`),
    ),
  )
})
