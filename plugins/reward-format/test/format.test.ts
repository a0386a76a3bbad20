import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import format from "../src/index.ts"

const score = (options: unknown, completion: string) =>
  Effect.gen(function* () {
    const reward = yield* (yield* format.configure(options))({ directory: "/", runDirectory: "/" })
    return yield* reward.score({
      prompt: "",
      completion,
      completionTokens: new Int32Array(0),
      columns: {},
      finishReason: "stop",
      maxCompletionLength: 64,
    })
  }).pipe(Effect.scoped)

describe("tags", () => {
  const tags = ["think", "answer"]
  const right = [
    "<think>1+1</think><answer>2</answer>",
    " <think>\n1 < 2\n</think>\n\n<answer>2</answer>\n",
    "<think></think><answer></answer>",
  ]
  const wrong = [
    "",
    "2",
    "<answer>2</answer>",
    "<answer>2</answer><think>1+1</think>",
    "<think>1+1</think>so<answer>2</answer>",
    "<think>1+1</think><answer>2</answer> done",
    "<think>1+1</think><answer>2",
    "<think>1</think><think>1</think><answer>2</answer>",
    "<think>a<think>b</think><answer>2</answer>",
    "<think><answer>2</answer></think><answer>2</answer>",
    "<think>1<answer>2</think></answer>",
  ]
  for (const text of right) {
    it.effect(`accepts ${JSON.stringify(text)}`, () =>
      Effect.map(score({ tags }, text), (reward) => expect(reward).toBe(1)),
    )
  }
  for (const text of wrong) {
    it.effect(`rejects ${JSON.stringify(text)}`, () =>
      Effect.map(score({ tags }, text), (reward) => expect(reward).toBe(0)),
    )
  }
})

it.effect("a pattern matches anywhere unless it says otherwise", () =>
  Effect.gen(function* () {
    expect(yield* score({ pattern: "\\d+" }, "it is 42")).toBe(1)
    expect(yield* score({ pattern: "^\\d+$" }, "it is 42")).toBe(0)
    expect(yield* score({ pattern: "^\\d+$" }, "42")).toBe(1)
  }),
)

it.effect("refuses options that make no sense", () =>
  Effect.gen(function* () {
    const problems = (options: unknown) =>
      Effect.map(Effect.flip(format.configure(options)), (all) =>
        all.map(({ path, message }) => `${path.join(".")}: ${message}`),
      )
    expect(yield* problems({})).toEqual([`: Expected "pattern" or "tags"`])
    expect(yield* problems({ pattern: "a", tags: ["b"] })).toEqual([`: Expected "pattern" or "tags"`])
    expect((yield* problems({ pattern: "(" }))[0]).toMatch(/^pattern: Invalid regular expression/)
    expect((yield* problems({ tags: ["<b>"] }))[0]).toMatch(/^tags\.0: /)
    expect((yield* problems({ tags: [] }))[0]).toMatch(/^tags/)
  }),
)
