import { defineReward } from "@rlpt/core"
import { Effect, Schema } from "effect"
import { existsSync } from "node:fs"
import { join, resolve } from "node:path"
import { openJudge } from "./judge.ts"

export const ModelOptions = Schema.Struct({
  /** A run of `rlpt reward`, a directory, or an id on the hub. */
  model: Schema.NonEmptyString,
  /** Most tokens of a text. */
  contextLength: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThan(0))),
})

/** Where a model lies: a run keeps it in a folder of its own. What does not exist is left for the hub. */
const locate = (directory: string, model: string): string => {
  const path = resolve(directory, model)
  if (existsSync(join(path, "model", "config.json"))) return join(path, "model")
  return existsSync(path) ? path : model
}

/** What a reward model says of a completion. */
export default defineReward({
  name: "model",
  options: ModelOptions,
  make: ({ contextLength, model }, { directory }) =>
    Effect.map(
      Effect.acquireRelease(
        Effect.tryPromise({
          try: () => openJudge(locate(directory, model), contextLength),
          catch: (cause) => (cause instanceof Error ? cause : new Error(String(cause))),
        }),
        ({ close }) => Effect.sync(close),
      ),
      ({ score }) => score,
    ),
})
