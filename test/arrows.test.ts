import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { findWrongArrows } from "./house/arrows.ts"
import { ROOT } from "./house/packages.ts"

test("every arrow of this repository points down, and there is no circle", () => {
  expect(findWrongArrows(ROOT)).toEqual([])
})

describe("the check finds", () => {
  let root: string
  beforeAll(() => void (root = mkdtempSync(join(tmpdir(), "rlpt-arrows-"))))
  afterAll(() => rmSync(root, { recursive: true, force: true }))

  let houses = 0
  /** A small house whose arrows are right, with `files` added or replaced. */
  function house(files: Record<string, string>): string[] {
    const folder = join(root, String(houses++))
    const manifest = (name: string, dependencies: string[]) =>
      JSON.stringify({ name, dependencies: Object.fromEntries(dependencies.map((it) => [it, "workspace:*"])) })
    const all = {
      "packages/tensor/package.json": manifest("@rlpt/tensor", []),
      "packages/tensor/src/index.ts": `export const tensor = 1`,
      "packages/core/package.json": manifest("@rlpt/core", []),
      "packages/core/src/index.ts": `export type Core = 1`,
      "packages/algos/package.json": manifest("@rlpt/algos", ["@rlpt/core", "@rlpt/tensor"]),
      "packages/algos/src/index.ts": `import type { Core } from "@rlpt/core"\nexport * from "@rlpt/tensor"`,
      "plugins/reward-x/package.json": manifest("@rlpt/reward-x", ["@rlpt/core"]),
      "plugins/reward-x/src/index.ts": `export const load = () => import("@rlpt/core")`,
      ...files,
    }
    for (const [path, text] of Object.entries(all)) {
      mkdirSync(dirname(join(folder, path)), { recursive: true })
      writeFileSync(join(folder, path), text)
    }
    return findWrongArrows(folder)
  }

  test("nothing in a house that is right", () => {
    expect(house({})).toEqual([])
  })

  test.each([
    ["an import", `import { tensor } from "@rlpt/tensor"`],
    ["a type import", `import type { T } from "@rlpt/tensor"`],
    ["a re-export", `export { tensor } from "@rlpt/tensor"`],
    ["an import()", `export const lazy = () => import("@rlpt/tensor")`],
    ["a type of import()", `export type T = import("@rlpt/tensor").T`],
  ])("%s that points up", (_, code) => {
    expect(house({ "packages/core/src/up.ts": code })).toContain(
      `packages/core/src/up.ts: "@rlpt/tensor" is an arrow that @rlpt/core may not have`,
    )
  })

  test("no arrow in comments and strings", () => {
    const code = `/* import "@rlpt/tensor" */ export const text = \`import x from "@rlpt/tensor"\``
    expect(house({ "packages/core/src/text.ts": code })).toEqual([])
  })

  test("a plugin that reaches past core, unless it runs a model", () => {
    const code = `import { tensor } from "@rlpt/tensor"`
    const manifest = (name: string) => JSON.stringify({ name, dependencies: { "@rlpt/tensor": "*" } })
    const plugin = (name: string) => ({
      [`plugins/${name}/package.json`]: manifest(`@rlpt/${name}`),
      [`plugins/${name}/src/index.ts`]: code,
    })
    expect(house(plugin("tracker-y"))).toEqual([expect.stringContaining("@rlpt/tracker-y may not have")])
    expect(house(plugin("backend-y"))).toEqual([])
    expect(house(plugin("reward-model"))).toEqual([])
  })

  test("a deep import, in sources and in tests", () => {
    const code = `import { hidden } from "@rlpt/core/src/hidden.ts"`
    const wrong = house({ "packages/algos/src/deep.ts": code, "packages/algos/test/deep.test.ts": code })
    expect(wrong).toEqual([expect.stringContaining("is not public"), expect.stringContaining("is not public")])
  })

  test("a relative path into another package", () => {
    const files = {
      "packages/algos/test/a.test.ts": `import "../../core/src/index.ts"`,
      "test/b.test.ts": `import "../packages/core/src/index.ts"`,
    }
    expect(house(files)).toEqual([
      `test/b.test.ts: "../packages/core/src/index.ts" leaves the package`,
      `packages/algos/test/a.test.ts: "../../core/src/index.ts" leaves the package`,
    ])
  })

  test("a foreign package in tensor", () => {
    expect(house({ "packages/tensor/src/x.ts": `import { Effect } from "effect"` })).toContain(
      `packages/tensor/src/x.ts: "effect": @rlpt/tensor may import only webgpu`,
    )
  })

  test("an import without a dependency, and a dependency without an import", () => {
    const manifest = JSON.stringify({ name: "@rlpt/algos", dependencies: { "@rlpt/core": "*", yaml: "1" } })
    expect(house({ "packages/algos/package.json": manifest })).toEqual([
      `packages/algos/package.json: lacks the dependency "@rlpt/tensor"`,
      `packages/algos/package.json: nothing in src imports the dependency "yaml"`,
    ])
  })

  test("a circle of files, but none of types", () => {
    const files = (ofB: string) => ({
      "packages/core/src/a.ts": `import { b } from "./b.ts"`,
      "packages/core/src/b.ts": ofB,
      "packages/core/src/c.ts": `import "./a.ts"`,
    })
    const circle =
      "circle: packages/core/src/a.ts → packages/core/src/b.ts → packages/core/src/c.ts → packages/core/src/a.ts"
    expect(house(files(`export * from "./c.ts"`))).toEqual([circle])
    expect(house(files(`import type { C } from "./c.ts"`))).toEqual([])
  })
})
