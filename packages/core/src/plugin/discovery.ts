import { Effect, Result, Schema, SchemaIssue } from "effect"
import { PluginLoadFailed, causeMessage } from "./errors.ts"
import { findPackage, packageRoot, readPackageJson, type PackageJson } from "./packages.ts"

/** One entry of the `rlpt` field of a plugin's package.json. Unknown kinds and versions are kept, to be reported. */
const ManifestEntry = Schema.Struct({
  kind: Schema.String,
  name: Schema.NonEmptyString,
  api: Schema.Finite,
  /** Export of the package that holds the plugin: `.` (the default) or a sub-path such as `./math`. */
  entry: Schema.optionalKey(Schema.String.check(Schema.isPattern(/^\.(\/.+)?$/))),
})

const Manifest = Schema.Union([ManifestEntry, Schema.NonEmptyArray(ManifestEntry)])

/** A plugin that package.json files promise; its code has not been run. */
export interface DiscoveredPlugin {
  readonly kind: string
  readonly name: string
  readonly api: number
  readonly package: string
  readonly version: string
  readonly entry: string
  /** Folder whose direct dependency the package is. */
  readonly root: string
  /** `project`: a dependency of the user's project; `built-in`: one of rlpt itself. */
  readonly origin: "project" | "built-in"
}

/** Everything that may be loaded by name. */
export interface PluginRegistry {
  /** Folder of the project's package.json; absent when there is none. */
  readonly project?: string
  readonly plugins: ReadonlyArray<DiscoveredPlugin>
  /** Direct dependencies without a manifest. */
  readonly others: ReadonlySet<string>
  /** Direct dependencies that are declared but not installed. */
  readonly missing: ReadonlySet<string>
  /** Packages whose manifest cannot be read, with the reason. */
  readonly broken: ReadonlyMap<string, string>
}

type Finding =
  | { readonly is: "plugins"; readonly plugins: ReadonlyArray<DiscoveredPlugin> }
  | { readonly is: "other" | "missing" | "broken"; readonly package: string; readonly reason: string }

const directDependencies = (json: PackageJson): ReadonlyArray<string> => [
  ...new Set([json.dependencies, json.devDependencies, json.optionalDependencies].flatMap((d) => Object.keys(d ?? {}))),
]

const inspect = Effect.fnUntraced(function* (
  name: string,
  root: string,
  origin: DiscoveredPlugin["origin"],
): Effect.fn.Return<Finding> {
  const directory = findPackage(name, root)
  if (directory === undefined) return { is: "missing", package: name, reason: "" }
  const json = yield* Effect.result(Effect.tryPromise(() => readPackageJson(directory)))
  if (Result.isFailure(json)) {
    return {
      is: "broken",
      package: name,
      reason: `its package.json cannot be read: ${causeMessage(json.failure.cause)}`,
    }
  }
  if (json.success.rlpt === undefined) return { is: "other", package: name, reason: "" }
  const manifest = yield* Effect.result(Schema.decodeUnknownEffect(Manifest, { errors: "all" })(json.success.rlpt))
  if (Result.isFailure(manifest)) {
    const { issues } = SchemaIssue.makeFormatterStandardSchemaV1()(manifest.failure.issue)
    const reasons = issues.map(({ path, message }) => `${["rlpt", ...(path ?? []).map(String)].join(".")}: ${message}`)
    return { is: "broken", package: name, reason: `its package.json is not right: ${[...new Set(reasons)].join("; ")}` }
  }
  const { version = "0.0.0" } = json.success
  const plugins = [manifest.success].flat().map(({ kind, name: plugin, api, entry = "." }) => {
    return { kind, name: plugin, api, package: name, version, entry, root, origin }
  })
  return { is: "plugins", plugins }
})

const scan = Effect.fnUntraced(function* (
  root: string,
  origin: DiscoveredPlugin["origin"],
): Effect.fn.Return<ReadonlyArray<Finding>, PluginLoadFailed> {
  const json = yield* Effect.tryPromise({
    try: () => readPackageJson(root),
    catch: (cause) =>
      new PluginLoadFailed({ message: `${root}/package.json cannot be read: ${causeMessage(cause)}`, cause }),
  })
  return yield* Effect.forEach(directDependencies(json), (name) => inspect(name, root, origin), { concurrency: 8 })
})

/**
 * Finds the plugins among the direct dependencies of the project around `directory`, and of the package at `builtIn`
 * (rlpt's own folder). Reads package.json files and runs no code. Dependencies of dependencies never count. The project
 * wins: a built-in plugin of the same package, or of the same kind and name, is left out.
 */
export const discoverPlugins = Effect.fn("discoverPlugins")(function* (options: {
  readonly directory: string
  readonly builtIn?: string
}): Effect.fn.Return<PluginRegistry, PluginLoadFailed> {
  const project = packageRoot(options.directory)
  const builtIn = options.builtIn === undefined ? undefined : packageRoot(options.builtIn)
  const own = project === undefined ? [] : yield* scan(project, "project")
  const theirs = builtIn === undefined || builtIn === project ? [] : yield* scan(builtIn, "built-in")

  const plugins = own.flatMap((finding) => (finding.is === "plugins" ? finding.plugins : []))
  const taken = new Set(plugins.flatMap((plugin) => [plugin.package, `${plugin.kind} ${plugin.name}`]))
  const spare = theirs
    .flatMap((finding) => (finding.is === "plugins" ? finding.plugins : []))
    .filter((plugin) => !taken.has(plugin.package) && !taken.has(`${plugin.kind} ${plugin.name}`))

  const named = (is: Finding["is"]) =>
    own.flatMap((finding) => (finding.is === is && "package" in finding ? [finding] : []))
  return {
    ...(project !== undefined && { project }),
    plugins: [...plugins, ...spare],
    others: new Set(named("other").map((finding) => finding.package)),
    missing: new Set(named("missing").map((finding) => finding.package)),
    broken: new Map(named("broken").map((finding) => [finding.package, finding.reason])),
  }
})
