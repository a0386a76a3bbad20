import { Effect, Predicate, Result } from "effect"
import {
  discoverPlugins,
  loadPlugin,
  type LoadedPlugin,
  type PluginKind,
  type PluginRegistry,
  type RewardSettings,
} from "@rlpt/core"
import { ConfigError, type ConfigProblem } from "./config/config-error.ts"
import { showKeyPath, type KeyPath } from "./config/key-path.ts"
import type { Loaded } from "./config/load.ts"

/** The keys of a configuration that name plugins. */
interface PluginKeys {
  readonly task: Use
  readonly checkpoint: Use
  readonly trackers: ReadonlyArray<Use>
  readonly rewards?: ReadonlyArray<Use & RewardSettings & { readonly name?: string }>
}

interface Use {
  readonly use: string
  readonly options: Readonly<Record<string, unknown>>
}

/** A plugin that has been imported and has accepted its options, but has not been started. */
export interface Prepared<K extends PluginKind> {
  readonly loaded: LoadedPlugin<K>
  readonly options: Readonly<Record<string, unknown>>
}

/** All plugins of a configuration. */
export interface PreparedPlugins {
  readonly task: Prepared<"task">
  readonly checkpoint: Prepared<"checkpoint-store">
  readonly trackers: ReadonlyArray<Prepared<"tracker">>
  readonly rewards: ReadonlyArray<Prepared<"reward"> & { readonly settings: RewardSettings; readonly name: string }>
}

/** What a plugin's own Schema says, in the words that the rest of the configuration is judged with. */
const reworded = (message: string): string => {
  if (message.startsWith("Expected no excess property")) return "unknown option"
  return message === "Missing key" ? "is required" : message.replace(/^Expected/, "expected")
}

/** Plugins that the project at `directory` may use, and those that come with rlpt. Runs no code of theirs. */
export const pluginRegistry = (directory: string) => discoverPlugins({ directory, builtIn: import.meta.dirname })

/** Imports what the configuration names and checks all options, so that everything wrong is told at once. */
export const preparePlugins = Effect.fn("preparePlugins")(function* (
  registry: PluginRegistry,
  { config, origin }: Pick<Loaded<PluginKeys>, "config" | "origin">,
) {
  const problems: Array<ConfigProblem> = []

  /** The plugin at `path`, or nothing and what is wrong with it on the list. */
  const prepare = Effect.fnUntraced(function* <K extends PluginKind>(kind: K, path: KeyPath, { use, options }: Use) {
    const key = showKeyPath(path)
    const loaded = yield* Effect.result(loadPlugin(registry, { kind, use, key, directory: config.root }))
    if (Result.isFailure(loaded)) {
      problems.push({ where: origin([...path, "use"]), what: loaded.failure.message })
      return undefined
    }
    const checked = yield* Effect.result(loaded.success.plugin.configure(options))
    if (Result.isSuccess(checked)) return { loaded: loaded.success, options } satisfies Prepared<K>
    for (const problem of checked.failure) {
      const place = [...path, "options", ...problem.path]
      const what = reworded(problem.message)
      problems.push({ where: origin(place), what: `${showKeyPath(place)}: ${what}` })
    }
    return undefined
  })

  const task = yield* prepare("task", ["task"], config.task)
  const checkpoint = yield* prepare("checkpoint-store", ["checkpoint"], config.checkpoint)
  const trackers = yield* Effect.forEach(config.trackers, (use, index) => prepare("tracker", ["trackers", index], use))
  const rewards = yield* Effect.forEach(config.rewards ?? [], (entry, index) =>
    Effect.map(
      prepare("reward", ["rewards", index], entry),
      (prepared) => prepared && { ...prepared, settings: entry, name: entry.name ?? prepared.loaded.name },
    ),
  )
  if (task === undefined || checkpoint === undefined || problems.length > 0) return yield* new ConfigError({ problems })
  const plugins: PreparedPlugins = {
    task,
    checkpoint,
    trackers: trackers.filter(Predicate.isNotUndefined),
    rewards: rewards.filter(Predicate.isNotUndefined),
  }
  return plugins
})
