import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { mkdirSync, symlinkSync } from "node:fs"
import { join } from "node:path"
import { discoverPlugins } from "../../src/index.ts"
import { folder, project, rewardPackage } from "./project.ts"

const names = (plugins: ReadonlyArray<{ package: string; kind: string; name: string; origin: string }>) =>
  plugins.map((plugin) => `${plugin.origin} ${plugin.package} ${plugin.kind} ${plugin.name}`)

describe("discoverPlugins", () => {
  it.effect("finds the direct dependencies that have a manifest, from any folder inside the project", () =>
    Effect.gen(function* () {
      const root = folder({
        "package.json": {
          dependencies: { "rlpt-reward-math": "*", lodash: "*" },
          devDependencies: { "@me/rlpt-reward-style": "*" },
          optionalDependencies: { "rlpt-absent": "*" },
        },
        "deep/er/config.json": {},
        ...rewardPackage("rlpt-reward-math"),
        ...rewardPackage("@me/rlpt-reward-style", { plugin: "style" }),
        ...rewardPackage("rlpt-reward-transitive", { plugin: "transitive" }),
        "node_modules/lodash/package.json": { name: "lodash", version: "4.0.0" },
      })
      const registry = yield* discoverPlugins({ directory: join(root, "deep/er") })
      expect(registry.project).toBe(root)
      expect(names(registry.plugins)).toEqual([
        "project rlpt-reward-math reward math",
        "project @me/rlpt-reward-style reward style",
      ])
      expect(registry.plugins[0]).toMatchObject({ version: "1.2.3", api: 1, entry: "." })
      expect([...registry.others]).toEqual(["lodash"])
      expect([...registry.missing]).toEqual(["rlpt-absent"])
    }),
  )

  it.effect("runs none of their code", () =>
    Effect.gen(function* () {
      const root = project(["rlpt-reward-bomb"], {
        ...rewardPackage("rlpt-reward-bomb", { plugin: "bomb" }),
        "node_modules/rlpt-reward-bomb/index.ts": "process.exit(3)",
      })
      expect((yield* discoverPlugins({ directory: root })).plugins).toHaveLength(1)
    }),
  )

  it.effect("reads several plugins from one package, each with its entry", () =>
    Effect.gen(function* () {
      const rlpt = [
        { kind: "reward", name: "a", api: 1, entry: "./a" },
        { kind: "task", name: "b", api: 1 },
      ]
      const root = project(["rlpt-many"], rewardPackage("rlpt-many", { rlpt }))
      const { plugins } = yield* discoverPlugins({ directory: root })
      expect(plugins.map(({ kind, name, entry }) => ({ kind, name, entry }))).toEqual([
        { kind: "reward", name: "a", entry: "./a" },
        { kind: "task", name: "b", entry: "." },
      ])
    }),
  )

  it.effect("keeps a manifest that makes no sense out, with the reason", () =>
    Effect.gen(function* () {
      const root = project(["rlpt-odd", "rlpt-torn"], {
        ...rewardPackage("rlpt-odd", { rlpt: { kind: "reward", api: "one" } }),
        "node_modules/rlpt-torn/package.json": "{ oops",
      })
      const registry = yield* discoverPlugins({ directory: root })
      expect(registry.plugins).toEqual([])
      expect(registry.broken.get("rlpt-odd")).toContain("rlpt.api: Expected number")
      expect(registry.broken.get("rlpt-odd")).toContain("rlpt.name: Missing key")
      expect(registry.broken.get("rlpt-torn")).toContain("cannot be read")
    }),
  )

  it.effect("adds the built-in plugins, of which the project's own take the place", () =>
    Effect.gen(function* () {
      const builtIn = project(["@rlpt/reward-math", "@rlpt/reward-style", "@rlpt/task-x"], {
        ...rewardPackage("@rlpt/reward-math"),
        ...rewardPackage("@rlpt/reward-style", { plugin: "style" }),
        ...rewardPackage("@rlpt/task-x", { rlpt: { kind: "task", name: "math", api: 1 } }),
      })
      const directory = project(["my-math"], rewardPackage("my-math"))
      const found = names((yield* discoverPlugins({ directory, builtIn })).plugins)
      expect(found).toEqual([
        "project my-math reward math",
        "built-in @rlpt/reward-style reward style",
        "built-in @rlpt/task-x task math",
      ])
      const outside = yield* discoverPlugins({ directory: folder({}), builtIn })
      expect(outside.project).toBeUndefined()
      expect(outside.plugins).toHaveLength(3)
    }),
  )

  it.effect("follows the links of an isolated install to a package's own neighbours", () =>
    Effect.gen(function* () {
      const store = "node_modules/.bun/rlpt@1.0.0"
      const root = folder({
        "package.json": { dependencies: { rlpt: "*" } },
        [`${store}/node_modules/rlpt/package.json`]: { name: "rlpt", dependencies: { "@rlpt/reward-math": "*" } },
        ...Object.fromEntries(
          Object.entries(rewardPackage("@rlpt/reward-math")).map(([file, content]) => [`${store}/${file}`, content]),
        ),
      })
      mkdirSync(join(root, "node_modules"), { recursive: true })
      symlinkSync(join(root, store, "node_modules/rlpt"), join(root, "node_modules/rlpt"))
      const found = yield* discoverPlugins({ directory: root, builtIn: join(root, "node_modules/rlpt") })
      expect(names(found.plugins)).toEqual(["built-in @rlpt/reward-math reward math"])
    }),
  )
})
