import { existsSync, globSync, readFileSync } from "node:fs"
import { basename, join, relative } from "node:path"
import { describe, expect, test } from "vitest"
import { readPackages, ROOT, sourceFiles } from "./house/packages.ts"

const BUILT = new Set(["node_modules", "dist", ".turbo"])
const read = (path: string) => readFileSync(join(ROOT, path), "utf8")

/** Files that people write, relative to the root. */
const texts = globSync(["*", ".ci/*", "{docs,packages,plugins,scripts,test}/**/*"], {
  cwd: ROOT,
  exclude: (path) => BUILT.has(basename(path)),
}).filter(
  (path) => /(\.(ts|json|md|ya?ml|toml|sh|html|css|svg|txt)|run|LICENSE)$/.test(path) && !/fixtures\//.test(path),
)

/** Every line of those files that matches, as `file:line: text`. */
function linesWith(pattern: RegExp): string[] {
  return texts.flatMap((path) =>
    read(path)
      .split("\n")
      .flatMap((line, index) => (pattern.test(line) ? [`${path}:${index + 1}: ${line.trim()}`] : [])),
  )
}

test("there are files to look at", () => {
  expect(texts).toContain("package.json")
  expect(texts).toContain("packages/tensor/src/index.ts")
})

test("no file names a folder of somebody's machine", () => {
  expect(linesWith(/(?<![\w.])\/(home|root|Users|work|mnt)\/\w|\b[A-Z]:\\Users/)).toEqual([])
})

test("no file leaves work to be done", () => {
  const words = ["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"]
  expect(linesWith(new RegExp(`\\b(${words.join("|")})\\b`))).toEqual([])
})

test("the lockfile names no registry", () => {
  expect(read("bun.lock")).not.toContain("://")
})

test("a source file has one subject: fewer than 400 lines", () => {
  const files = ["packages", "plugins", "scripts", "test"].flatMap((folder) => sourceFiles(join(ROOT, folder)))
  const long = files.filter((file) => !file.endsWith(".test.ts") && readFileSync(file, "utf8").split("\n").length > 400)
  expect(long.map((file) => relative(ROOT, file))).toEqual([])
})

test("the continuous integration runs the command of the README", () => {
  const command = /npx .*$/m.exec(read(".ci/run"))![0]
  expect(read("README.md")).toContain(command)
})

describe.each(
  readPackages(ROOT).map(({ folder, manifest, isPlugin }) => ({ name: manifest.name, folder, manifest, isPlugin })),
)("$name", ({ folder, manifest, isPlugin }) => {
  test("says what it is, under which licence, and what of it is public", () => {
    expect(manifest).toMatchObject({
      license: "Apache-2.0",
      type: "module",
      version: expect.stringMatching(/^\d+\.\d+\.\d+/),
    })
    expect(manifest.description).toMatch(/\w+ \w+/)
    expect(manifest.exports).toMatchObject({
      ".": { bun: "./src/index.ts", types: "./dist/index.d.ts", default: "./dist/index.js" },
      "./package.json": "./package.json",
    })
    expect(existsSync(join(folder, "src", "index.ts"))).toBe(true)
  })

  test("has tests", () => {
    expect(globSync("test/**/*.test.ts", { cwd: folder })).not.toEqual([])
  })

  test.runIf(isPlugin)("declares itself a plugin, and shares core and effect with its host", () => {
    expect(manifest).toMatchObject({
      keywords: expect.arrayContaining(["rlpt-plugin"]),
      rlpt: { kind: expect.any(String), name: expect.any(String), api: expect.any(Number) },
      peerDependencies: { "@rlpt/core": expect.any(String) },
    })
    expect(Object.keys(manifest.dependencies ?? {})).not.toContain("effect")
  })
})
