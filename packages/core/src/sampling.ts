import { Schema } from "effect"

/** How completions are drawn. Names and meanings are those of TRL and vLLM. */
export const SamplingParams = Schema.Struct({
  /** Divides the logits; 0 means greedy. */
  temperature: Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0)),
  /** Keep the k most likely tokens; 0 keeps all. */
  topK: Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)),
  /** Keep the smallest set of tokens whose probability reaches p. */
  topP: Schema.Finite.check(Schema.isGreaterThan(0), Schema.isLessThanOrEqualTo(1)),
  /** Keep tokens at least this fraction as likely as the likeliest. */
  minP: Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0), Schema.isLessThanOrEqualTo(1)),
  maxCompletionLength: Schema.Int.check(Schema.isGreaterThan(0)),
  /** Token ids that end a completion, besides the model's own end-of-text token. */
  stopTokens: Schema.Array(Schema.Int),
})
export type SamplingParams = typeof SamplingParams.Type
