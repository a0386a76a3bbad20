import { Effect, FileSystem, Path } from "effect"
import { pathToFileURL } from "node:url"
import { ConfigError, configError } from "./config-error.ts"
import { parseConfigText, type ConfigDocument } from "./document.ts"
import { lendOurselves } from "./lend-ourselves.ts"

/** Names under which a configuration is found without being asked for. */
export const configFileNames = ["rlpt.config.ts", "rlpt.config.yaml", "rlpt.config.yml", "rlpt.config.json"]

/** The configuration file of `directory`, if there is one. Two are an error: either could be the one that was meant. */
export const findConfigFile = Effect.fnUntraced(function* (directory: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const present = yield* Effect.filter(configFileNames, (name) =>
    fs.exists(path.join(directory, name)).pipe(Effect.orElseSucceed(() => false)),
  )
  if (present.length > 1) {
    return yield* configError(
      directory,
      `has both ${present.join(" and ")}: choose one by --config, or remove the other`,
    )
  }
  return present[0] === undefined ? undefined : path.join(directory, present[0])
})

/** Reads `file` by its extension: a module (`.ts`, `.js`, `.mjs`), YAML or JSON. `shown` is its name in messages. */
export const readConfigFile = Effect.fnUntraced(function* (file: string, shown: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const extension = path.extname(file)
  const text = yield* fs
    .readFileString(file)
    .pipe(
      Effect.mapError((error) =>
        configError(shown, error.reason._tag === "NotFound" ? "does not exist" : `cannot be read: ${error.message}`),
      ),
    )
  switch (extension) {
    case ".ts":
    case ".js":
    case ".mjs":
      return yield* importConfig(file, shown)
    case ".yaml":
    case ".yml":
    case ".json": {
      const parsed = parseConfigText(shown, text)
      return "problems" in parsed ? yield* new ConfigError({ problems: parsed.problems }) : parsed.document
    }
    default:
      return yield* configError(shown, `is neither .ts, .yaml nor .json`)
  }
})

/** A module has no positions: problems in it are named by file and key path. */
const importConfig = Effect.fnUntraced(function* (file: string, shown: string) {
  yield* Effect.promise(() => lendOurselves(file))
  const module = yield* Effect.tryPromise({
    try: (): Promise<{ readonly default?: unknown }> => import(pathToFileURL(file).href),
    catch: (cause) => importFailure(shown, cause),
  })
  if (module.default === undefined) {
    return yield* configError(shown, "has no default export: write `export default defineConfig({ … })`")
  }
  const document: ConfigDocument = {
    value: module.default,
    locate: () => shown,
    has: (path) => path.reduce<unknown>((value, part) => Object(value)[part], module.default) !== undefined,
  }
  return document
})

/** Bun's messages for syntax errors and missing imports carry their position; other throws do not. */
const importFailure = (shown: string, cause: unknown): ConfigError => {
  const message = cause instanceof Error ? cause.message : String(cause)
  const position: unknown = Object(cause).position ?? Object(Object(cause).errors?.[0]).position
  const { line, column } = Object(position) as { readonly line?: unknown; readonly column?: unknown }
  const where = typeof line === "number" && typeof column === "number" ? `${shown}:${line}:${column}` : shown
  return configError(where, `cannot be imported: ${message}`)
}
