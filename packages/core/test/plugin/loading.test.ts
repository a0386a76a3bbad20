import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { discoverPlugins, loadPlugin, openPlugin, type PluginKind, type RewardInput } from "../../src/index.ts"
import { folder, project, rewardPackage } from "./project.ts"

const input: RewardInput = {
  prompt: "1+1=",
  completion: "2",
  completionTokens: Int32Array.of(2),
  columns: { answer: "2" },
  finishReason: "stop",
  maxCompletionLength: 8,
}

const load = <K extends PluginKind = "reward">(directory: string, use: string, kind = "reward" as K) =>
  Effect.flatMap(discoverPlugins({ directory }), (registry) =>
    loadPlugin(registry, { kind, use, key: "rewards[0]", directory }),
  )

const score = (directory: string, use: string, options?: unknown) =>
  load(directory, use).pipe(
    Effect.flatMap((loaded) => openPlugin(loaded, options, { directory, runDirectory: join(directory, "runs/x") })),
    Effect.flatMap((reward) => reward.score(input)),
    Effect.scoped,
  )

describe("loadPlugin", () => {
  it.effect("takes a short name, a package name, package#name and a path", () =>
    Effect.gen(function* () {
      const rlpt = [
        { kind: "reward", name: "a", api: 1 },
        { kind: "reward", name: "b", api: 1, entry: "./b" },
      ]
      const root = project(["rlpt-reward-math", "rlpt-two"], {
        ...rewardPackage("rlpt-reward-math", { score: 0.5 }),
        ...rewardPackage("rlpt-two", { plugin: "a", rlpt }),
        "node_modules/rlpt-two/package.json": {
          name: "rlpt-two",
          version: "0.1.0",
          type: "module",
          exports: { ".": "./index.ts", "./b": "./b.ts" },
          rlpt,
        },
        "node_modules/rlpt-two/b.ts": `
          import { defineReward } from "@rlpt/core"
          export default defineReward({ name: "b", score: async () => 0.25 })`,
        "rewards/local.ts": `
          import { defineReward } from "@rlpt/core"
          import { Effect } from "effect"
          export default defineReward({ name: "local", score: ({ completion }) => Effect.succeed(completion.length) })`,
      })
      expect(yield* score(root, "math")).toBe(0.5)
      expect(yield* score(root, "rlpt-reward-math")).toBe(0.5)
      expect(yield* score(root, "rlpt-two#b")).toBe(0.25)
      expect(yield* score(root, "./rewards/local.ts")).toBe(1)
      expect((yield* load(root, "math")).source).toBe("rlpt-reward-math@1.2.3")
      expect((yield* load(root, "./rewards/local.ts")).source).toBe(join(root, "rewards/local.ts"))
      expect((yield* Effect.flip(load(root, "rlpt-two"))).message).toContain(`"rlpt-two#a", "rlpt-two#b"`)
    }),
  )

  it.effect("imports only what is named", () =>
    Effect.gen(function* () {
      const root = project(["rlpt-reward-math", "rlpt-reward-bomb"], {
        ...rewardPackage("rlpt-reward-math"),
        ...rewardPackage("rlpt-reward-bomb", { plugin: "bomb" }),
        "node_modules/rlpt-reward-bomb/index.ts": "globalThis.exploded = true; throw new Error('bang')",
      })
      expect(yield* score(root, "math")).toBe(1)
      expect(globalThis).not.toHaveProperty("exploded")
      const error = yield* Effect.flip(load(root, "bomb"))
      expect(error._tag).toBe("PluginLoadFailed")
      expect(error.message).toBe("rewards[0].use: rlpt-reward-bomb@1.2.3 cannot be imported: bang")
    }),
  )

  it.effect("suggests a near name, names the kind's other plugins and says how to install", () =>
    Effect.gen(function* () {
      const root = project(["rlpt-reward-math"], rewardPackage("rlpt-reward-math"))
      const error = yield* Effect.flip(load(root, "maths"))
      expect(error).toMatchObject({ _tag: "PluginNotFound", suggestions: ["math"] })
      expect(error.message).toBe(
        `rewards[0].use: there is no reward "maths"; did you mean "math"? Installed: "math". ` +
          `To add one: bun add @rlpt/reward-maths`,
      )
      const asTask = yield* Effect.flip(load(root, "math", "task"))
      expect(asTask.message).toContain(`rlpt-reward-math has a reward called "math", which cannot be used here`)
      const file = yield* Effect.flip(load(root, "./nowhere.ts"))
      expect(file).toMatchObject({ _tag: "PluginNotFound" })
      expect(file.message).toContain(join(root, "nowhere.ts"))
    }),
  )

  it.effect("refuses packages that the project does not list, has not installed or that are no plugins", () =>
    Effect.gen(function* () {
      const root = project(["lodash", "rlpt-absent", "rlpt-odd"], {
        ...rewardPackage("rlpt-reward-transitive"),
        ...rewardPackage("rlpt-odd", { rlpt: 7 }),
        "node_modules/lodash/package.json": { name: "lodash" },
      })
      const refuse = (use: string) => Effect.flip(load(root, use))
      const transitive = yield* refuse("rlpt-reward-transitive")
      expect(transitive._tag).toBe("PluginNotAllowed")
      expect(transitive.message).toContain("bun add rlpt-reward-transitive")
      expect(yield* refuse("lodash")).toMatchObject({ _tag: "NotAPlugin" })
      const absent = yield* refuse("rlpt-absent")
      expect(absent._tag).toBe("PluginNotFound")
      expect(absent.message).toContain("run: bun install")
      expect(yield* refuse("rlpt-odd")).toMatchObject({ _tag: "PluginLoadFailed" })
    }),
  )

  it.effect("asks which one when two dependencies provide the same name", () =>
    Effect.gen(function* () {
      const root = project(["math-one", "math-two"], {
        ...rewardPackage("math-one", { score: 1 }),
        ...rewardPackage("math-two", { score: 2 }),
      })
      const error = yield* Effect.flip(load(root, "math"))
      expect(error).toMatchObject({ _tag: "DuplicatePlugin", packages: ["math-one", "math-two"] })
      expect(error.message).toContain(`write one of "math-one", "math-two"`)
      expect(yield* score(root, "math-two")).toBe(2)
    }),
  )

  it.effect("checks the API version in the manifest before any code runs, and again on the plugin", () =>
    Effect.gen(function* () {
      const root = project(["rlpt-future", "rlpt-liar"], {
        ...rewardPackage("rlpt-future", { rlpt: { kind: "reward", name: "future", api: 2 } }),
        "node_modules/rlpt-future/index.ts": "globalThis.futureRan = true",
        ...rewardPackage("rlpt-liar", { plugin: "liar" }),
        "node_modules/rlpt-liar/index.ts": `
          export default { "~@rlpt/core/Plugin": { api: 0, kind: "reward", name: "liar" } }`,
      })
      const future = yield* Effect.flip(load(root, "future"))
      expect(future).toMatchObject({ _tag: "PluginApiMismatch", api: 2 })
      expect(future.message).toContain("update rlpt")
      expect(globalThis).not.toHaveProperty("futureRan")
      const liar = yield* Effect.flip(load(root, "liar"))
      expect(liar).toMatchObject({ _tag: "PluginApiMismatch", api: 0 })
      expect(liar.message).toContain("install a newer version")
    }),
  )

  it.effect("refuses a default export that is not the promised plugin", () =>
    Effect.gen(function* () {
      const root = project(["rlpt-renamed"], {
        ...rewardPackage("rlpt-renamed", { plugin: "new", rlpt: { kind: "reward", name: "old", api: 1 } }),
        "bare.ts": "export default () => 1",
        "none.ts": "export const reward = () => 1",
        "task.ts": `
          import { defineTask } from "@rlpt/core"
          export default defineTask({ name: "t", make: () => { throw new Error("no") } })`,
      })
      const reason = (use: string) =>
        Effect.map(Effect.flip(load(root, use)), ({ _tag, message }) => `${_tag} ${message}`)
      expect(yield* reason("./bare.ts")).toMatch(/^NotAPlugin .*defineReward\(.*it exports a value of type function/)
      expect(yield* reason("./none.ts")).toMatch(/^NotAPlugin .*it exports nothing/)
      expect(yield* reason("./task.ts")).toMatch(/^NotAPlugin .*exports the task "t", not a reward/)
      expect(yield* reason("old")).toMatch(/^NotAPlugin .*exports the reward "new", not the reward "old"/)
    }),
  )
})

describe("openPlugin", () => {
  const strict = {
    "strict.ts": `
      import { defineReward } from "@rlpt/core"
      import { Effect, Schema } from "effect"
      export default defineReward({
        name: "strict",
        options: Schema.Struct({
          weight: Schema.Finite.pipe(Schema.withDecodingDefaultKey(Effect.succeed(2))),
          tags: Schema.optionalKey(Schema.Array(Schema.String)),
        }),
        score: (_, { options }) => options.weight,
      })`,
    "plain.ts": `
      import { defineReward } from "@rlpt/core"
      export default defineReward({ name: "plain", score: () => 1 })`,
    "broken.ts": `
      import { defineReward } from "@rlpt/core"
      export default defineReward({ name: "broken", make: async () => { throw new Error("no such server") } })`,
    "contextual.ts": `
      import { defineReward } from "@rlpt/core"
      import { Effect } from "effect"
      import { appendFileSync } from "node:fs"
      export default defineReward({
        name: "contextual",
        make: (_, { runDirectory }) => Effect.gen(function* () {
          const log = (line) => appendFileSync(runDirectory + "/log", line)
          yield* Effect.acquireRelease(Effect.sync(() => log("open ")), () => Effect.sync(() => log("close")))
          return () => { log("score "); return 1 }
        }),
      })`,
  }

  it.effect("decodes options with the plugin's own schema and applies its defaults", () =>
    Effect.gen(function* () {
      const root = project([], strict)
      expect(yield* score(root, "./strict.ts")).toBe(2)
      expect(yield* score(root, "./strict.ts", { weight: 3 })).toBe(3)
    }),
  )

  it.effect("reports every bad option with its key path", () =>
    Effect.gen(function* () {
      const root = project([], strict)
      const error = yield* Effect.flip(score(root, "./strict.ts", { weight: "x", tags: ["a", 1], wieght: 1 }))
      expect(error).toMatchObject({ _tag: "BadPluginOptions" })
      expect((error as { problems: ReadonlyArray<string> }).problems.toSorted()).toEqual([
        "rewards[0].options.tags[1]: Expected string",
        "rewards[0].options.weight: Expected number",
        "rewards[0].options.wieght: Expected no excess property",
      ])
      const none = yield* Effect.flip(score(root, "./plain.ts", { weight: 1 }))
      expect(none).toMatchObject({
        problems: [expect.stringContaining("rewards[0].options.weight: Expected no excess")],
      })
      expect(yield* Effect.flip(score(root, "./plain.ts", 5))).toMatchObject({
        problems: ["rewards[0].options: Expected object"],
      })
    }),
  )

  it.effect("turns a throw while starting into an error that names the plugin", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(score(project([], strict), "./broken.ts"))
      expect(error).toMatchObject({
        _tag: "PluginLoadFailed",
        message: `rewards[0]: the reward "broken" cannot start: no such server`,
      })
    }),
  )

  it.effect("keeps what a plugin opened until the scope closes", () =>
    Effect.gen(function* () {
      const root = project([], strict)
      mkdirSync(join(root, "runs/x"), { recursive: true })
      yield* score(root, "./contextual.ts")
      const log = yield* Effect.promise(() => Bun.file(join(root, "runs/x/log")).text())
      expect(log).toBe("open score close")
    }),
  )

  it.effect("describes the options as JSON Schema", () =>
    Effect.gen(function* () {
      const { plugin } = yield* load(project([], strict), "./strict.ts")
      expect(plugin.optionsSchema()).toMatchObject({ type: "object", properties: { weight: { type: "number" } } })
    }),
  )
})

describe("a lone reward file", () => {
  it("imports effect and @rlpt/core where neither is installed", () => {
    const lone = folder({
      "my-reward.ts": `
        import { defineReward } from "@rlpt/core"
        import { Effect, Schema } from "effect"
        import * as Duration from "effect/Duration"
        export default defineReward({
          name: "mine",
          options: Schema.Struct({ seconds: Schema.Finite }),
          score: (_, { options }) => Effect.succeed(Duration.toMillis(Duration.seconds(options.seconds))),
        })`,
    })
    const host = join(import.meta.dirname, "../../src/index.ts")
    const script = join(folder({}), "host.ts")
    writeFileSync(
      script,
      `import { discoverPlugins, loadPlugin, openPlugin } from ${JSON.stringify(host)}
       import { Effect } from ${JSON.stringify(Bun.resolveSync("effect", import.meta.dirname))}
       const directory = ${JSON.stringify(lone)}
       const reference = { kind: "reward", use: "./my-reward.ts", key: "rewards[0]", directory }
       console.log(await Effect.runPromise(Effect.scoped(Effect.gen(function* () {
         const loaded = yield* loadPlugin(yield* discoverPlugins({ directory }), reference)
         const reward = yield* openPlugin(loaded, { seconds: 4 }, { directory, runDirectory: directory })
         return yield* reward.score({})
       }))))`,
    )
    const { stdout, stderr } = Bun.spawnSync([process.execPath, script], { cwd: lone, timeout: 30_000 })
    expect(`${stdout}${stderr}`.trim()).toBe("4000")
  })
})
