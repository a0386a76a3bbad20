import { defineTask, TaskError, type Split } from "@rlpt/core"
import { Effect, Schema } from "effect"

export const PromptsOptions = Schema.Struct({
  /** Texts to complete. `[""]` starts from the start token alone. */
  prompts: Schema.NonEmptyArray(Schema.String),
  /** Texts of the held-out split; without them there is none. */
  evalPrompts: Schema.optionalKey(Schema.NonEmptyArray(Schema.String)),
})

const split = (prompts: ReadonlyArray<string>): Split => ({
  size: prompts.length,
  row: (index) => {
    const prompt = prompts[index]
    return prompt === undefined
      ? Effect.fail(new TaskError({ message: `there is no prompt ${index}: there are ${prompts.length}` }))
      : Effect.succeed({ prompt, columns: {} })
  },
})

/** Prompts written in the configuration. */
export default defineTask({
  name: "prompts",
  options: PromptsOptions,
  make: ({ prompts, evalPrompts }) => ({
    name: "prompts",
    train: split(prompts),
    ...(evalPrompts && { eval: split(evalPrompts) }),
  }),
})
