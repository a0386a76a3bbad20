import { Effect, Path } from "effect"
import { Command } from "effect/cli"
import { pluginApi, type DiscoveredPlugin } from "@rlpt/core"
import { pluginRegistry } from "../configured-plugins.ts"
import { dim, Screen, yellow } from "../view/screen.ts"
import * as flags from "./flags.ts"

const list = Command.make(
  "list",
  { json: flags.json },
  Effect.fn(function* ({ json }) {
    const path = yield* Path.Path
    const registry = yield* pluginRegistry(path.resolve())
    const plugins = registry.plugins
      .toSorted(byKindAndName)
      .map(({ api, kind, name, origin, package: from, version }) => {
        return { kind, name, package: from, version, origin, usable: api === pluginApi }
      })
    const broken = [...registry.broken].map(([name, reason]) => ({ package: name, reason }))
    const screen = yield* Screen
    if (json) return yield* screen.print(JSON.stringify({ plugins, broken }, null, 2))

    const width = (of: (plugin: (typeof plugins)[number]) => string) =>
      Math.max(...plugins.map((plugin) => of(plugin).length))
    const columns = [width(({ kind }) => kind), width(({ name }) => name)] as const
    for (const { kind, name, origin, package: from, usable, version } of plugins) {
      const source = dim(screen, `${from} ${version}${origin === "built-in" ? ", built in" : ""}`)
      const note = usable ? "" : yellow(screen, "  written for another version of rlpt")
      yield* screen.print(`${kind.padEnd(columns[0])}  ${name.padEnd(columns[1])}  ${source}${note}`)
    }
    for (const { package: name, reason } of broken)
      yield* screen.print(yellow(screen, `${name} cannot be used: ${reason}`))
  }),
).pipe(
  Command.withDescription("List the plugins that a configuration here may name"),
  Command.withExamples([{ command: "rlpt plugins list --json", description: "The same for programs" }]),
)

const byKindAndName = (a: DiscoveredPlugin, b: DiscoveredPlugin): number =>
  a.kind.localeCompare(b.kind) || a.name.localeCompare(b.name)

export const pluginsCommand = Command.make("plugins").pipe(
  Command.withDescription("Rewards, tasks, checkpoint stores, trackers and backends"),
  Command.withSubcommands([list]),
)
