import { Effect } from "effect"
import type { PluginKind } from "./definition.ts"
import type { DiscoveredPlugin, PluginRegistry } from "./discovery.ts"
import {
  DuplicatePlugin,
  NotAPlugin,
  PluginLoadFailed,
  PluginNotAllowed,
  PluginNotFound,
  type PluginError,
} from "./errors.ts"
import { findPackage } from "./packages.ts"
import { similarNames } from "./similar.ts"

/** What official packages of each kind are called. */
const prefixes: Readonly<Record<PluginKind, string>> = {
  reward: "@rlpt/reward-",
  task: "@rlpt/task-",
  "checkpoint-store": "@rlpt/checkpoint-",
  tracker: "@rlpt/tracker-",
  "rollout-backend": "@rlpt/backend-",
  "model-backend": "@rlpt/backend-",
}

interface Wanted {
  readonly kind: PluginKind
  readonly use: string
  readonly key: string
}

const notFound = (registry: PluginRegistry, { kind, use, key }: Wanted) => {
  const looksLikePackage = use.startsWith("@") || use.includes("rlpt-")
  const ofKind = registry.plugins.filter((plugin) => plugin.kind === kind)
  const suggestions = similarNames(
    use,
    ofKind.flatMap((plugin) => [plugin.name, plugin.package]),
  )
  const otherKind = registry.plugins.find((plugin) => plugin.name === use || plugin.package === use)
  const known = [...new Set(ofKind.map((plugin) => `"${plugin.name}"`))].join(", ")
  const clues = [
    suggestions.length > 0 && `did you mean ${suggestions.map((name) => `"${name}"`).join(" or ")}?`,
    otherKind && `${otherKind.package} has a ${otherKind.kind} called "${otherKind.name}", which cannot be used here.`,
    known === "" ? `No ${kind} is installed.` : `Installed: ${known}.`,
    `To add one: bun add ${looksLikePackage ? use.split("#")[0] : prefixes[kind] + use}`,
  ]
  const message = `${key}.use: there is no ${kind} "${use}"; ${clues.filter(Boolean).join(" ")}`
  return new PluginNotFound({ message, suggestions })
}

/** Why package `name` gives no plugin, if it is known at all. */
const refusal = (registry: PluginRegistry, name: string, { key }: Wanted) => {
  const broken = registry.broken.get(name)
  if (broken !== undefined) return new PluginLoadFailed({ message: `${key}.use: ${name} cannot be used: ${broken}` })
  if (registry.missing.has(name)) {
    const message = `${key}.use: ${name} is in ${registry.project}/package.json but is not installed; run: bun install`
    return new PluginNotFound({ message, suggestions: [] })
  }
  if (registry.others.has(name)) {
    return new NotAPlugin({ message: `${key}.use: ${name} is no rlpt plugin: its package.json has no "rlpt" field` })
  }
  if (registry.project !== undefined && findPackage(name, registry.project) !== undefined) {
    const message =
      `${key}.use: ${name} is installed, but ${registry.project}/package.json does not list it, and only what it ` +
      `lists may run; to allow it: bun add ${name}`
    return new PluginNotAllowed({ message })
  }
  return undefined
}

/** The one plugin that a short name, a package name or `package#name` stands for. The project's come before built-in. */
export const selectPlugin = (
  registry: PluginRegistry,
  wanted: Wanted,
): Effect.Effect<DiscoveredPlugin, PluginError> => {
  const { kind, use, key } = wanted
  const [name = use, part] = use.split("#")
  const ofKind = registry.plugins.filter((plugin) => plugin.kind === kind)
  const byName = ofKind.filter((plugin) => plugin.name === use)
  const byPackage = ofKind.filter((plugin) => plugin.package === name && (part === undefined || plugin.name === part))
  const candidates = byName.length > 0 ? byName : byPackage
  const [found] = candidates
  if (found === undefined) return Effect.fail(refusal(registry, name, wanted) ?? notFound(registry, wanted))
  if (candidates.length === 1) return Effect.succeed(found)

  const exact = candidates.map((plugin) => (byName.length > 0 ? plugin.package : `${plugin.package}#${plugin.name}`))
  const message = `${key}.use: "${use}" may stand for several plugins; write one of ${exact.map((n) => `"${n}"`).join(", ")}`
  return Effect.fail(new DuplicatePlugin({ message, packages: candidates.map((plugin) => plugin.package) }))
}
