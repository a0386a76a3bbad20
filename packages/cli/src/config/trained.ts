import { Effect, Schema } from "effect"

/** What of a model a run trains: adapters, or some of its weights. Names are PEFT's in camelCase. */

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
  /** Linear layers by name or end of name, a regular expression for whole names, or "all-linear". */
  targetModules: withDefault(Schema.Union([Name, Names]), "all-linear"),
  useRslora: withDefault(Schema.Boolean, false),
  useDora: withDefault(Schema.Boolean, false),
})

export const trainedFields = {
  lora: Schema.optionalKey(Lora).annotate({
    description: "Train an adapter on the model, as PEFT does, in place of its weights: { r, alpha, targetModules, useRslora, useDora }.",
  }),
  trainable: withDefault(
    Schema.Union([Name, Names, Schema.Struct({ layers: Schema.Tuple([Schema.Int, Schema.Int]) })]),
    "all",
  ).annotate({
    description: "Weights to train: all, regular expressions for their names, or { layers: [first, last] }, -1 being the last.",
  }),
}

/** What is wrong between the fields, as a filter issue. */
export const checkTrained = ({ lora, trainable }: Schema.Struct<typeof trainedFields>["Type"]): Schema.FilterIssue[] =>
  lora !== undefined && trainable !== "all"
    ? [{ path: ["trainable"], issue: "with lora the adapter alone is trained: leave one of the two out" }]
    : []
