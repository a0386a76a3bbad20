import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join, resolve } from "node:path"
import { onTestFinished } from "vitest"

const core = resolve(import.meta.dirname, "../..")

/** A temporary folder with `files` in it (objects become JSON), gone when the test ends. */
export const folder = (files: Readonly<Record<string, string | object>>): string => {
  const root = realpathSync(mkdtempSync(join(tmpdir(), "rlpt-core-")))
  onTestFinished(() => rmSync(root, { recursive: true, force: true }))
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true })
    writeFileSync(join(root, name), typeof content === "string" ? content : JSON.stringify(content))
  }
  return root
}

/** Files of a plugin package in `node_modules` that gives every sample the score `score`. */
export const rewardPackage = (
  name: string,
  { plugin = "math", score = 1, rlpt }: { plugin?: string; score?: number; rlpt?: unknown } = {},
): Record<string, string | object> => ({
  [`node_modules/${name}/package.json`]: {
    name,
    version: "1.2.3",
    type: "module",
    keywords: ["rlpt-plugin"],
    exports: "./index.ts",
    rlpt: rlpt ?? { kind: "reward", name: plugin, api: 1 },
  },
  [`node_modules/${name}/index.ts`]: `
    import { defineReward } from "@rlpt/core"
    export default defineReward({ name: "${plugin}", score: () => ${score} })`,
})

/** Puts this package and effect into the `node_modules` of `root`, as an installer would. */
export const installCore = (root: string): string => {
  mkdirSync(join(root, "node_modules/@rlpt"), { recursive: true })
  symlinkSync(core, join(root, "node_modules/@rlpt/core"))
  symlinkSync(realpathSync(join(core, "node_modules/effect")), join(root, "node_modules/effect"))
  return root
}

/** A project that depends on `dependencies`, with `files` and `@rlpt/core` in place. */
export const project = (
  dependencies: ReadonlyArray<string>,
  files: Readonly<Record<string, string | object>>,
): string =>
  installCore(
    folder({
      "package.json": { name: "my-run", dependencies: Object.fromEntries(dependencies.map((name) => [name, "*"])) },
      ...files,
    }),
  )
