import { Effect, type Scope } from "effect"
import { existsSync } from "node:fs"
import { isAbsolute, resolve } from "node:path"
import { pathToFileURL } from "node:url"
import {
  pluginApi,
  pluginTypeId,
  type Plugin,
  type PluginContext,
  type PluginKind,
  type PluginMarker,
  type PluginRequirements,
  type PluginServices,
} from "./definition.ts"
import type { PluginRegistry } from "./discovery.ts"
import {
  BadPluginOptions,
  NotAPlugin,
  PluginApiMismatch,
  PluginLoadFailed,
  PluginNotFound,
  causeMessage,
} from "./errors.ts"
import type { PluginError } from "./errors.ts"
import { shareHostModules } from "./host-modules.ts"
import { showProblem } from "./options.ts"
import { resolveModule } from "./packages.ts"
import { selectPlugin } from "./selection.ts"

/** How a configuration names a plugin. */
export interface PluginReference<K extends PluginKind = PluginKind> {
  readonly kind: K
  /** Short name, package name, `package#name` for one of several in a package, or a path such as `./reward.ts`. */
  readonly use: string
  /** Where the configuration says so, such as `rewards[0]`: errors start with it. */
  readonly key: string
  /** Folder of the configuration file, which paths start from. */
  readonly directory: string
}

/** An imported plugin and where it came from. */
export interface LoadedPlugin<K extends PluginKind = PluginKind> {
  readonly plugin: Plugin<K>
  readonly kind: K
  readonly name: string
  readonly key: string
  /** `package@version`, or the path of the file: what a run's log records. */
  readonly source: string
}

const isPath = (use: string) => /^\.\.?[\\/]/.test(use) || isAbsolute(use)

const definers: Readonly<Record<PluginKind, string>> = {
  reward: "defineReward",
  task: "defineTask",
  "checkpoint-store": "defineCheckpointStore",
  tracker: "defineTracker",
  "rollout-backend": "defineRolloutBackend",
  "model-backend": "defineModelBackend",
}

const markerOf = (value: unknown): Partial<PluginMarker> | undefined => {
  if (typeof value !== "object" || value === null || !(pluginTypeId in value)) return undefined
  const marker = value[pluginTypeId]
  return typeof marker === "object" && marker !== null ? marker : undefined
}

const apiMismatch = (source: string, key: string, api: unknown) =>
  new PluginApiMismatch({
    api,
    message:
      `${key}.use: ${source} is written for plugin API ${String(api)}, this rlpt has ${pluginApi}; ` +
      (Number(api) > pluginApi ? "update rlpt" : "install a newer version of the plugin"),
  })

const importPlugin = Effect.fnUntraced(function* <K extends PluginKind>(
  { kind, key }: PluginReference<K>,
  source: string,
  file: () => string,
  name?: string,
): Effect.fn.Return<LoadedPlugin<K>, PluginError> {
  const module: { readonly default?: unknown } = yield* Effect.tryPromise({
    try: () => import(pathToFileURL(file()).href),
    catch: (cause) =>
      new PluginLoadFailed({ message: `${key}.use: ${source} cannot be imported: ${causeMessage(cause)}`, cause }),
  })
  const marker = markerOf(module.default)
  if (marker === undefined) {
    const found = module.default === undefined ? "nothing" : `a value of type ${typeof module.default}`
    const message = `${key}.use: ${source} must export default ${definers[kind]}({ ... }); it exports ${found}`
    return yield* new NotAPlugin({ message })
  }
  if (marker.api !== pluginApi) return yield* apiMismatch(source, key, marker.api)
  if (marker.kind !== kind || (name !== undefined && marker.name !== name)) {
    const expected = name === undefined ? `a ${kind}` : `the ${kind} "${name}" that its package.json promises`
    const message = `${key}.use: ${source} exports the ${marker.kind} "${marker.name}", not ${expected}`
    return yield* new NotAPlugin({ message })
  }
  return { plugin: module.default as Plugin<K>, kind, name: marker.name ?? "", key, source }
})

/**
 * Imports the plugin that `reference` names, and nothing else. The manifest's API version is checked before any of its
 * code runs, the mark on its default export afterwards.
 */
export const loadPlugin = Effect.fn("loadPlugin")(function* <K extends PluginKind>(
  registry: PluginRegistry,
  reference: PluginReference<K>,
): Effect.fn.Return<LoadedPlugin<K>, PluginError> {
  const { use, key, directory } = reference
  if (isPath(use)) {
    const file = resolve(directory, use)
    if (!existsSync(file)) {
      const message = `${key}.use: ${file} does not exist (paths start from the folder of the configuration file)`
      return yield* new PluginNotFound({ message, suggestions: [] })
    }
    yield* Effect.promise(() => shareHostModules(resolve(file, "..")))
    return yield* importPlugin(reference, file, () => file)
  }
  const found = yield* selectPlugin(registry, reference)
  const source = `${found.package}@${found.version}`
  if (found.api !== pluginApi) return yield* apiMismatch(source, key, found.api)
  const specifier = found.package + found.entry.slice(1)
  return yield* importPlugin(reference, source, () => resolveModule(specifier, found.root), found.name)
})

/** Checks `options` and starts the plugin; it stops when the scope closes. Wrap in `Layer.effect` to provide its port. */
export const openPlugin = Effect.fn("openPlugin")(function* <K extends PluginKind>(
  { plugin, kind, name, key }: LoadedPlugin<K>,
  options: unknown,
  context: PluginContext,
): Effect.fn.Return<PluginServices[K], BadPluginOptions | PluginLoadFailed, Scope.Scope | PluginRequirements[K]> {
  const open = yield* plugin.configure(options).pipe(
    Effect.mapError((found) => {
      const problems = found.map((problem) => showProblem(key, problem))
      return new BadPluginOptions({ message: problems.join("\n"), problems })
    }),
  )
  return yield* open(context).pipe(
    Effect.mapError(
      (cause) =>
        new PluginLoadFailed({ message: `${key}: the ${kind} "${name}" cannot start: ${causeMessage(cause)}`, cause }),
    ),
  )
})
