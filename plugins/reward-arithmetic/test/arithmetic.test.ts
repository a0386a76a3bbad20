import { expect, it } from "@effect/vitest"
import type { RewardInput } from "@rlpt/core"
import { Effect } from "effect"
import arithmetic from "../src/index.ts"

const score = (completion: string, columns: RewardInput["columns"]) =>
  Effect.gen(function* () {
    const reward = yield* (yield* arithmetic.configure(undefined))({ directory: "/", runDirectory: "/" })
    const completionTokens = new Int32Array(completion.length)
    return yield* reward.score({
      prompt: "17+25=",
      completion,
      completionTokens,
      columns,
      finishReason: "stop",
      maxCompletionLength: 4,
    })
  }).pipe(Effect.scoped)

it.effect("gives 1 for exactly the right answer, white space aside, and 0 for anything else", () =>
  Effect.gen(function* () {
    const judge = (completions: ReadonlyArray<string>) =>
      Effect.forEach(completions, (completion) => score(completion, { answer: "42" }))
    expect(yield* judge(["42", " 42", "42\n"])).toEqual([1, 1, 1])
    expect(yield* judge(["", "4", "24", "42 43", "042", "421"])).toEqual([0, 0, 0, 0, 0, 0])
  }),
)

it.effect("compares numbers by how they are written", () =>
  Effect.map(score("42", { answer: 42 }), (reward) => expect(reward).toBe(1)),
)

it.effect("fails on rows without an answer, rather than calling everything wrong", () =>
  Effect.map(Effect.flip(score("42", {})), (error) =>
    expect(String(error)).toContain(`the row has no text or number in the column "answer"`),
  ),
)
