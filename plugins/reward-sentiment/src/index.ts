import { defineReward } from "@rlpt/core"
import { Effect, Schema } from "effect"
import { SentimentIntensityAnalyzer } from "vader-sentiment"

export const SentimentOptions = Schema.Struct({
  /** The mood that is rewarded. */
  target: Schema.Literals(["positive", "negative"]).pipe(
    Schema.withDecodingDefaultKey(Effect.succeed("positive" as const)),
  ),
})

/**
 * VADER's compound score of the completion, from −1 (most negative) to 1 (most positive), with its sign changed when
 * negative texts are wanted. Hutto & Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis", 2014.
 */
export default defineReward({
  name: "sentiment",
  options: SentimentOptions,
  score: ({ completion }, { options }) => {
    const { compound } = SentimentIntensityAnalyzer.polarity_scores(completion)
    return options.target === "positive" ? compound : -compound
  },
})
