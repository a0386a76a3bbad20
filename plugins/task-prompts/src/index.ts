import { defineTask, TaskError, type Content, type Split } from "@rlpt/core"
import { Effect, Schema } from "effect"

const Message = Schema.StructWithRest(Schema.Struct({ role: Schema.NonEmptyString }), [
  Schema.Record(Schema.String, Schema.Unknown),
])
const Prompts = Schema.NonEmptyArray(Schema.Union([Schema.String, Schema.NonEmptyArray(Message)]))

export const PromptsOptions = Schema.Struct({
  /** Texts to complete, or lists of messages for the model's chat template. `[""]` starts from the start token alone. */
  prompts: Prompts,
  /** Those of the held-out split; without them there is none. */
  evalPrompts: Schema.optionalKey(Prompts),
})

const split = (prompts: ReadonlyArray<Content>): Split => ({
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
