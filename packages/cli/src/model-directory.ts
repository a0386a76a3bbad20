import { Effect, FileSystem, Path } from "effect"
import { configError } from "./config/config-error.ts"

/** The model that comes with rlpt: small enough to learn something within minutes on a CPU. */
const builtIn = new URL("../base", import.meta.url).pathname

export interface ModelChoice {
  /** From the configuration or a flag; nothing for the built-in model. */
  readonly model: string | undefined
  /** Folder that a relative path starts from. */
  readonly root: string
  /** Who chose it, for the error. */
  readonly origin: string
}

/** The Hugging Face directory of a model, given its path, or that of a run which has trained one. */
export const modelDirectory = Effect.fnUntraced(function* ({ model, root, origin }: ModelChoice) {
  const path = yield* Path.Path
  const chosen = model === undefined ? builtIn : path.resolve(root, model)
  // Asked first: the config.json of a run is not that of a model.
  const ofRun = path.join(chosen, "model")
  if (yield* isModel(ofRun)) return ofRun
  if (yield* isModel(chosen)) return chosen
  return yield* configError(
    origin,
    `model: ${chosen} is not a Hugging Face directory: it has no config.json with a model_type. ` +
      "Give the path of a downloaded model, or of a run that has finished.",
  )
})

const isModel = Effect.fnUntraced(function* (directory: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  return yield* fs.readFileString(path.join(directory, "config.json")).pipe(
    Effect.map((text) => text.includes('"model_type"')),
    Effect.orElseSucceed(() => false),
  )
})
