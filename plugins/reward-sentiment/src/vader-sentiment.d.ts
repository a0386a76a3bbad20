/** The part of `vader-sentiment` that is used here; the package has no types of its own. */
declare module "vader-sentiment" {
  export const SentimentIntensityAnalyzer: {
    /** `compound` is in [−1, 1]; `neg`, `neu` and `pos` are shares that add up to 1. */
    readonly polarity_scores: (text: string) => {
      readonly compound: number
      readonly neg: number
      readonly neu: number
      readonly pos: number
    }
  }
}
