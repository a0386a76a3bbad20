import { defineReward } from "@rlpt/core"
import { Effect, Schema } from "effect"
import { softOverlongPunishment } from "./soft-overlong.ts"

export const LengthOptions = Schema.Struct({
  /** L: the length from which the penalty is whole. */
  maxLength: Schema.Int.check(Schema.isGreaterThan(0)),
  /** c: width of the slope below `maxLength` on which the penalty grows; 0 makes it a step. */
  cache: Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)),
  /** What is counted: tokens (the stop token included) or characters. */
  unit: Schema.Literals(["tokens", "characters"]).pipe(
    Schema.withDecodingDefaultKey(Effect.succeed("tokens" as const)),
  ),
}).check(
  Schema.makeFilter(({ maxLength, cache }) => cache <= maxLength || `Expected "cache" to be at most "maxLength"`),
)

/** DAPO's soft overlong punishment: 0 for short completions, falling to −1 at `maxLength`. */
export default defineReward({
  name: "length",
  options: LengthOptions,
  score: ({ completion, completionTokens }, { options: { maxLength, cache, unit } }) =>
    softOverlongPunishment(unit === "tokens" ? completionTokens.length : [...completion].length, maxLength, cache),
})
