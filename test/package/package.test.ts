import { execFile } from "node:child_process"
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { basename, dirname, join } from "node:path"
import { promisify } from "node:util"
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core"
import { publint } from "publint"
import { build } from "vite"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { openPage, whyNoChromium } from "../browser/chromium.ts"
import { serve } from "../browser/site.ts"
import { readPackages, ROOT, type Manifest } from "../house/packages.ts"
import { findNode } from "./node.ts"
import { installTarball, pack, readPacked } from "./pack.ts"

const run = promisify(execFile)

const folder = mkdtempSync(join(tmpdir(), "rlpt-package-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe.each(readPackages(ROOT).map((each) => ({ name: each.manifest.name, ...each })))(
  "$name, packed",
  ({ folder: source }) => {
    let tarball: string
    beforeAll(async () => void (tarball = await pack(source, folder)))

    test("passes publint", async () => {
      const { messages } = await publint({ pack: { tarball: arrayBuffer(readFileSync(tarball)) } })
      expect(messages).toEqual([])
    })

    test("has types that resolve as its code does", async () => {
      const checked = await checkPackage(createPackageFromTarballData(readFileSync(tarball)))
      // All is ESM, which the oldest resolution of TypeScript knows nothing of and `require` loads as such.
      const ofCommonJs = new Set(["NoResolution node10", "CJSResolvesToESM node16-cjs"])
      expect(checked.types).toEqual({ kind: "included" })
      expect(
        "problems" in checked
          ? checked.problems
              .map((problem) => `${problem.kind} ${"resolutionKind" in problem ? problem.resolutionKind : ""}`)
              .filter((problem) => !ofCommonJs.has(problem))
          : undefined,
      ).toEqual([])
    })

    test("names versions, and nothing of the workspace", async () => {
      const packed = await readPacked(tarball)
      const ranges = [packed.dependencies, packed.peerDependencies, packed.optionalDependencies].flatMap((all) =>
        Object.values(all ?? {}),
      )
      expect(ranges.filter((range) => !/^[\^~]?\d+\.\d+\.\d+/.test(range))).toEqual([])
    })
  },
)

describe("@rlpt/tensor, installed from its tarball in an empty project", () => {
  const project = join(folder, "project")
  const consumer = join(import.meta.dirname, "consumer")
  let manifest: Manifest
  beforeAll(async () => {
    const source = join(ROOT, "packages/tensor")
    const tarball = readdirSync(folder).find((name) => name.startsWith("rlpt-tensor-"))!
    manifest = await installTarball(join(folder, tarball), source, project)
    writeFileSync(join(project, "package.json"), JSON.stringify({ name: "consumer", type: "module", private: true }))
    for (const name of readdirSync(consumer)) copyFileSync(join(consumer, name), join(project, name))
    writeFileSync(
      join(project, "main.js"),
      'import { train } from "./train.js"\nconsole.log(JSON.stringify(await train()))\nprocess.exit(0)\n',
    )
  })

  interface Outcome {
    readonly adapter: string
    readonly losses: readonly number[]
  }
  /** Trains with a program that runs JavaScript files. */
  const trainWith = async (program: string): Promise<Outcome> => {
    const { stdout } = await run(program, ["main.js"], { cwd: project })
    return JSON.parse(stdout.trim().split("\n").at(-1)!) as Outcome
  }
  const expectLearned = (losses: readonly number[]) => {
    expect(losses).toHaveLength(50)
    expect(losses[0]).toBeGreaterThan(1)
    expect(losses.at(-1)).toBeLessThan(losses[0]! / 10)
  }

  test("depends on webgpu alone, and can do without the software driver", () => {
    expect(Object.keys(manifest.dependencies!)).toEqual(["webgpu"])
    expect(Object.keys(manifest.optionalDependencies!)).toEqual(["@sparticuz/chromium"])
    expect(manifest.peerDependencies).toBeUndefined()
    for (const name of ["README.md", "LICENSE"])
      expect(readFileSync(join(project, "node_modules/@rlpt/tensor", name), "utf8").length).toBeGreaterThan(500)
  })

  const node = findNode()
  test.skipIf("missing" in node)(
    `trains in Node 22 and in Bun, with the same bits${"missing" in node ? ` (skipped: ${node.missing})` : ""}`,
    async () => {
      if ("missing" in node) return
      const version = (await run(node.path, ["--version"])).stdout
      expect(Number(/^v(\d+)/.exec(version)![1])).toBeGreaterThanOrEqual(22)
      const inNode = await trainWith(node.path)
      expectLearned(inNode.losses)
      expect(inNode).toEqual(await trainWith(process.execPath))
    },
  )

  test.each([
    { what: "every check on", lib: undefined, skipLibCheck: false },
    { what: "without a browser's types", lib: ["ES2023"], skipLibCheck: true },
  ])("compiles against its declarations, $what", async ({ lib, skipLibCheck }) => {
    const strict = { strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true }
    const compilerOptions = {
      module: "NodeNext",
      target: "ES2023",
      types: [],
      noEmit: true,
      ...strict,
      lib,
      skipLibCheck,
    }
    writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["types.ts"] }))
    const tsc = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin/tsc")
    const { stdout } = await run(process.execPath, [tsc, "-p", project]).catch((error: { stdout: string }) => error)
    expect(stdout).toBe("")
  })

  const missing = whyNoChromium()
  describe.skipIf(missing !== undefined)(`in headless Chromium${missing ? ` (skipped: ${missing})` : ""}`, () => {
    const page = (head: string, script: string) =>
      `<!doctype html>${head}<script type="module">import { train } from "${script}"
      window.outcome = undefined
      train().then(JSON.stringify, String).then((text) => (window.outcome = text))</script>`
    /** Opens the page of a folder and waits until it has trained. Resolves with the files that it loaded. */
    const expectTrains = async (root: string): Promise<readonly string[]> => {
      await using site = await serve(root)
      await using browser = await openPage(site.url)
      const outcome = await browser.settled("window.outcome", 120)
      expect(outcome).toMatch(/^\{/)
      const { adapter, losses } = JSON.parse(String(outcome)) as Outcome
      expect(adapter).toBe("swiftshader")
      expectLearned(losses)
      return site.requests
    }

    test("trains from its own files, by an import map, and loads nothing native", async () => {
      const imports = { "@rlpt/tensor": "./node_modules/@rlpt/tensor/dist/index.js" }
      const map = `<script type="importmap">${JSON.stringify({ imports })}</script>`
      writeFileSync(join(project, "index.html"), page(map, "./train.js"))
      const files = (await expectTrains(project)).filter((path) => path.endsWith(".js")).map((path) => basename(path))
      expect(files).toContain("adamw.js")
      expect(files.filter((name) => /native|vulkan|swiftshader/.test(name))).toEqual([])
    })

    test("trains from a bundle that Vite makes, which holds nothing native", async () => {
      writeFileSync(join(project, "index.html"), page("", "./train.js"))
      const site = join(project, "site")
      await build({ root: project, configFile: false, logLevel: "error", build: { outDir: site, target: "esnext" } })
      const assets = readdirSync(join(site, "assets"))
      const code = assets.map((name) => readFileSync(join(site, "assets", name), "utf8")).join("\n")
      // Neither what is native nor what the program does not use.
      const words = ["requestAdapter", "dawn.node", '"node:', "`node:", "libvulkan", "safetensors"]
      expect(words.filter((word) => code.includes(word))).toEqual(["requestAdapter"])
      await expectTrains(site)
    })
  })
})

const arrayBuffer = ({ buffer, byteOffset, byteLength }: Buffer): ArrayBuffer =>
  (buffer as ArrayBuffer).slice(byteOffset, byteOffset + byteLength)
