import { Effect, FileSystem, Path, Schema } from "effect"
import { pinnedReference, repositoryOf } from "@rlpt/models"
import { configError } from "./config/config-error.ts"
import type { Loaded } from "./config/load.ts"
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
  /** The key that chose it, for the error. Default: model. */
  readonly key?: string
}

/** Where a model is. */
export interface ModelPlace {
  /** A Hugging Face directory or a GGUF file. */
  readonly model: string
  /** The directory of an adapter on it, as PEFT stores it. */
  readonly adapter?: string
  /** What others find the model by, without the adapter: its path, or its id on the hub. */
  readonly name: string
  /** Of a model of the hub, the choice with the commit that it led to. */
  readonly pinned?: string
}

/**
 * The place of a model, given the path of its Hugging Face directory or GGUF file, of a run which has trained one, of an
 * adapter (whose `adapter_config.json` names the base), or its id on the hub.
 */
export const findModel = Effect.fnUntraced(function* (choice: ModelChoice) {
  const path = yield* Path.Path
  const chosen = choice.model === undefined ? builtIn : path.resolve(choice.root, choice.model)
  const settings = path.join(chosen, "adapter_config.json")
  // A merged model may lie beside its adapter.
  if (yield* isModel(chosen)) return yield* findWhole(choice, chosen)
  if (!(yield* exists(settings))) return yield* findWhole(choice, chosen)
  const base = yield* baseOf(settings, choice)
  const { model, name } = yield* findWhole(base, path.resolve(base.root, base.model))
  const place: ModelPlace = { model, name, adapter: chosen }
  return place
})

const AdapterConfig = Schema.fromJsonString(
  Schema.Struct({
    base_model_name_or_path: Schema.NonEmptyString,
    revision: Schema.optionalKey(Schema.NullOr(Schema.String)),
  }),
)

/** The model that an adapter was trained on: a path, which starts where that of the adapter does, or an id on the hub. */
const baseOf = Effect.fnUntraced(function* (settings: string, { key = "model", origin, root }: ModelChoice) {
  const fs = yield* FileSystem.FileSystem
  const problem = `${key}: ${settings} does not name the adapter's base model as "base_model_name_or_path"`
  const base = yield* fs.readFileString(settings).pipe(
    Effect.flatMap(Schema.decodeEffect(AdapterConfig)),
    Effect.mapError(() => configError(origin, problem)),
  )
  const { base_model_name_or_path: model, revision } = base
  return { model: revision && isModelReference(model) ? `${model}@${revision}` : model, root, origin: settings, key }
})

const findWhole = Effect.fnUntraced(function* ({ key = "model", model, origin }: ModelChoice, chosen: string) {
  const path = yield* Path.Path
  const at = (found: string): ModelPlace => ({ model: found, name: found })
  // Asked first: the config.json of a run is not that of a model.
  const ofRun = path.join(chosen, "model")
  if (yield* isModel(ofRun)) return at(ofRun)
  const isThere = yield* exists(chosen)
  if ((yield* isModel(chosen)) || (isThere && chosen.endsWith(".gguf"))) return at(chosen)
  if (!isThere && model !== undefined && isModelReference(model)) {
    const found = yield* hubModel(model, origin)
    return { ...at(found), name: repositoryOf(model) ?? model, pinned: pinnedReference(model, found) }
  }
  return yield* configError(
    origin,
    `${key}: ${chosen} is not a Hugging Face directory: it has no config.json with a model_type. ` +
      "Give the path of a downloaded model or of a run that has finished, or a hub id such as Qwen/Qwen3-0.6B.",
  )
})

/** The models that a command trains. */
export interface TrainedPlaces extends ModelPlace {
  /** Where a critic starts that does not start from the policy's model. */
  readonly critic?: ModelPlace
}

/** The places of the models that a configuration names. */
export const findModels = Effect.fnUntraced(function* ({
  config,
  origin,
}: Pick<Loaded<ModelKeys>, "config" | "origin">) {
  const { criticModel, lora, model, root } = config
  const place = yield* findModel({ model, root, origin: origin(["model"]) })
  if (place.adapter !== undefined && lora !== undefined) {
    const problem = `lora: the model ${place.adapter} is an adapter, which is trained as it is: leave lora out, or name its base as the model`
    return yield* configError(origin(["lora"]), problem)
  }
  const places: TrainedPlaces = place
  if (criticModel === undefined) return places
  const key = "criticModel"
  const critic = yield* findModel({ model: criticModel, root, origin: origin([key]), key })
  if (critic.adapter === undefined) return { ...places, critic }
  return yield* configError(
    origin([key]),
    `${key}: ${critic.adapter} is an adapter; name a merged model, such as a run's`,
  )
})

/** The keys of a configuration that name models, or bear on them. */
interface ModelKeys {
  readonly root?: string
  readonly model?: string
  readonly criticModel?: string
  readonly lora?: object
}

/** The configuration with the commits that its models are at: what a run writes down must lead to the same model again. */
export const pinned = <C extends ModelKeys>(config: C, { critic, pinned: model }: TrainedPlaces): C => ({
  ...config,
  ...(model !== undefined && { model }),
  ...(critic?.pinned !== undefined && { criticModel: critic.pinned }),
})

const exists = (file: string) =>
  Effect.flatMap(FileSystem.FileSystem, (fs) => fs.exists(file).pipe(Effect.orElseSucceed(() => false)))

const isModel = Effect.fnUntraced(function* (directory: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  return yield* fs.readFileString(path.join(directory, "config.json")).pipe(
    Effect.map((text) => text.includes('"model_type"')),
    Effect.orElseSucceed(() => false),
  )
})
