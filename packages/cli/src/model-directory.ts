import { Effect, FileSystem, Path } from "effect"
import { configError } from "./config/config-error.ts"
import { hubModel, isModelReference } from "./hub-model.ts"

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

/**
 * The Hugging Face directory (or GGUF file) of a model, given its path, that of a run which has trained one, or the id of
 * a model on the hub.
 */
export const modelDirectory = Effect.fnUntraced(function* ({ model, root, origin }: ModelChoice) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const chosen = model === undefined ? builtIn : path.resolve(root, model)
  // Asked first: the config.json of a run is not that of a model.
  const ofRun = path.join(chosen, "model")
  if (yield* isModel(ofRun)) return ofRun
  if (yield* isModel(chosen)) return chosen
  const exists = yield* fs.exists(chosen).pipe(Effect.orElseSucceed(() => false))
  if (exists && chosen.endsWith(".gguf")) return chosen
  if (!exists && model !== undefined && isModelReference(model)) return yield* hubModel(model, origin)
  return yield* configError(
    origin,
    `model: ${chosen} is not a Hugging Face directory: it has no config.json with a model_type. ` +
      "Give the path of a downloaded model or of a run that has finished, or a hub id such as Qwen/Qwen3-0.6B.",
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
