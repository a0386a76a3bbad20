import { Effect, Schema } from "effect"

/** What of a model a run trains, and at what cost of memory. Names are PEFT's and TRL's in camelCase. */

const withDefault = <S extends Schema.Top>(schema: S, value: S["Encoded"]) =>
  schema.pipe(Schema.withDecodingDefaultKey(Effect.succeed(value)))

const Name = Schema.NonEmptyString
const Names = Schema.NonEmptyArray(Name)
const Positive = Schema.Finite.check(Schema.isGreaterThan(0))

const Lora = Schema.Struct({
  /** Rank. */
  r: withDefault(Schema.Int.check(Schema.isGreaterThan(0)), 16),
  /** The adapter counts alpha / r times, with rsLoRA alpha / √r times. */
  alpha: withDefault(Positive, 32),
  /** Probability with which an element does not reach the adapter in training. Above 0, samples are off-policy. */
  dropout: withDefault(Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0), Schema.isLessThan(1)), 0),
  /** Linear layers by name or end of name, a regular expression for whole names, or "all-linear". */
  targetModules: withDefault(Schema.Union([Name, Names]), "all-linear"),
  useRslora: withDefault(Schema.Boolean, false),
  useDora: withDefault(Schema.Boolean, false),
})

export const trainedFields = {
  lora: Schema.optionalKey(Lora).annotate({
    description:
      "Train an adapter on the model, as PEFT does, in place of its weights: { r, alpha, dropout, targetModules, useRslora, useDora }.",
  }),
  trainable: withDefault(
    Schema.Union([Name, Names, Schema.Struct({ layers: Schema.Tuple([Schema.Int, Schema.Int]) })]),
    "all",
  ).annotate({
    description:
      "Weights to train: all, regular expressions for their names, or { layers: [first, last] }, -1 being the last.",
  }),
  dtype: Schema.optionalKey(Schema.Literals(["auto", "float32", "bfloat16", "float16"])).annotate({
    description:
      "How weights are kept; auto is as the model's file stores them. Absent: what is trained is float32, what is frozen (the base of an adapter) as it is stored.",
  }),
  gradientCheckpointing: withDefault(Schema.Boolean, false).annotate({
    description:
      "Keep little of each layer for the gradient and compute it again: less memory, more time, the same model.",
  }),
}

/** What is wrong between the fields, as a filter issue. */
export const checkTrained = ({ lora, trainable }: Schema.Struct<typeof trainedFields>["Type"]): Schema.FilterIssue[] =>
  lora !== undefined && trainable !== "all"
    ? [{ path: ["trainable"], issue: "with lora the adapter alone is trained: leave one of the two out" }]
    : []
