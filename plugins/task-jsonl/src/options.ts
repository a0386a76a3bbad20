import { Effect, Schema } from "effect"

const column = (name: string) => Schema.NonEmptyString.pipe(Schema.withDecodingDefaultKey(Effect.succeed(name)))

export const JsonlOptions = Schema.Struct({
  /** File of rows: one JSON object a line, or one JSON array of objects. Relative to the configuration file. */
  train: Schema.NonEmptyString,
  /** File of held-out rows. */
  eval: Schema.optionalKey(Schema.NonEmptyString),
  promptColumn: column("prompt"),
  /** Text to imitate in supervised fine-tuning; rows may lack it. */
  completionColumn: column("completion"),
  /** Columns that every row must have, for rewards to rely on. All other columns reach the rewards too. */
  columns: Schema.optionalKey(Schema.Array(Schema.NonEmptyString)),
})
export type JsonlOptions = typeof JsonlOptions.Type
