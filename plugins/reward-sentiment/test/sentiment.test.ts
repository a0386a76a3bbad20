import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import sentiment from "../src/index.ts"

const score = (options: unknown, completion: string) =>
  Effect.gen(function* () {
    const reward = yield* (yield* sentiment.configure(options))({ directory: "/", runDirectory: "/" })
    return yield* reward.score({
      prompt: "",
      completion,
      completionTokens: new Int32Array(0),
      columns: {},
      finishReason: "stop",
      maxCompletionLength: 64,
    })
  }).pipe(Effect.scoped)

// Sentences and compound scores from the README of the reference implementation in Python (cjhutto/vaderSentiment).
const published: ReadonlyArray<[sentence: string, compound: number]> = [
  ["VADER is smart, handsome, and funny.", 0.8316],
  ["VADER is VERY SMART, handsome, and FUNNY!!!", 0.9342],
  ["VADER is not smart, handsome, nor funny.", -0.7424],
  ["The book was good.", 0.4404],
  ["At least it isn't a horrible book.", 0.431],
  ["Today SUX!", -0.5461],
]

for (const [sentence, compound] of published) {
  it.effect(`${compound}: ${sentence}`, () =>
    Effect.gen(function* () {
      expect(yield* score({}, sentence)).toBeCloseTo(compound, 4)
      expect(yield* score({ target: "negative" }, sentence)).toBeCloseTo(-compound, 4)
    }),
  )
}

it.effect("stays a finite number between -1 and 1 for whatever a model may write", () =>
  Effect.gen(function* () {
    const texts = ["", " ", "\n\n", "🙂", "!!!???", "<|x|> \u0000", "not ".repeat(200), "great ".repeat(200)]
    const rewards = yield* Effect.forEach(texts, (text) => score({}, text))
    expect(rewards.filter((reward) => !(reward! >= -1 && reward! <= 1))).toEqual([])
    expect(yield* score({}, "")).toBe(0)
  }),
)
