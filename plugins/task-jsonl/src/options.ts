import { Effect, Schema } from "effect"

const column = (name: string) => Schema.NonEmptyString.pipe(Schema.withDecodingDefaultKey(Effect.succeed(name)))

export const JsonlOptions = Schema.Struct({
  /** File of rows: one JSON object a line, or one JSON array of objects. Relative to the configuration file. */
  train: Schema.NonEmptyString,
  /** File of held-out rows. */
  eval: Schema.optionalKey(Schema.NonEmptyString),
  /** Text, or messages such as {"role": "user", "content": "…"}, which the model's chat template writes. */
  promptColumn: column("prompt"),
  /** What to imitate in supervised fine-tuning, written like the prompt; rows may lack it. */
  completionColumn: column("completion"),
  /** The better and the worse of two completions, for the training of a reward model; rows may lack both. */
  chosenColumn: column("chosen"),
  rejectedColumn: column("rejected"),
  /** A whole conversation, for rows without a prompt: what comes before the assistant's first message is the prompt. */
  messagesColumn: column("messages"),
  /** Tools of a conversation, as JSON Schema; rows may lack it. */
  toolsColumn: column("tools"),
  /** Columns that every row must have, for rewards to rely on. All other columns reach the rewards too. */
  columns: Schema.optionalKey(Schema.Array(Schema.NonEmptyString)),
})
export type JsonlOptions = typeof JsonlOptions.Type
