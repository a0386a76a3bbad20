import { execFile } from "node:child_process"
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import type { AdapterInfo } from "../../src/adapter/info.ts"
import { mesaMajor } from "../../src/adapter/info.ts"
import { findSwiftShaderArchive } from "../../src/adapter/swiftshader.ts"
import { findDriverFiles } from "../../src/adapter/vulkan.ts"

type Outcome = { info: AdapterInfo; squares: number[] } | { error: string; message: string }

/** Opens `kinds` one after the other in one process that has `env` on top of this one's variables. */
async function open(kinds: string[], env: Record<string, string> = {}): Promise<Outcome[]> {
  const report = join(import.meta.dirname, "report.ts")
  const { RLPT_ADAPTER: _, ...inherited } = process.env
  const options = { env: { ...inherited, ...env }, timeout: 50_000 }
  const { stdout } = await promisify(execFile)(process.execPath, [report, ...kinds], options)
  return stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Outcome)
}

const isLinux = process.platform === "linux" && process.arch === "x64"
const hasSwiftShader = isLinux && findSwiftShaderArchive() !== undefined
const hasLavapipe = isLinux && findDriverFiles().some((file) => file.includes("lvp"))
const hidden = { VK_DRIVER_FILES: "/nowhere/icd.json", VK_ICD_FILENAMES: "/nowhere/icd.json" }
const works = (kind: string) => ({ info: expect.objectContaining({ kind }), squares: [0, 1, 4, 9] })

let folder: string
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), "rlpt-ladder-"))))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe.skipIf(!hasSwiftShader)("SwiftShader, from npm alone", () => {
  test("comes up and computes where no Vulkan driver is installed, and says why the others do not", async () => {
    const [outcome] = await open(["auto"], hidden)
    expect(outcome).toEqual(works("swiftshader"))
    const { info } = outcome as { info: AdapterInfo }
    expect(info).toMatchObject({ isSoftware: true, subgroupMinSize: 4, subgroupMaxSize: 4 })
    expect(info.features).toContain("subgroups")
    expect(info.skipped.map(({ kind }) => kind)).toEqual(["gpu", "lavapipe"])
    expect(info.skipped[0]!.reason).toMatch(/no Vulkan driver.*nowhere/)
  })

  test("comes up where the system's Vulkan loader cannot be loaded", async () => {
    const libraries = join(folder, "libraries")
    mkdirSync(libraries)
    writeFileSync(join(libraries, "libvulkan.so.1"), "not a library")
    expect(await open(["auto"], { ...hidden, LD_LIBRARY_PATH: libraries })).toEqual([works("swiftshader")])
  })

  test("comes up after Dawn has refused the system's driver", async () => {
    const icd = join(folder, "broken.json")
    const ICD = { library_path: join(folder, "missing.so"), api_version: "1.3.0" }
    writeFileSync(icd, JSON.stringify({ file_format_version: "1.0.0", ICD }))
    const [outcome] = await open(["auto"], { VK_DRIVER_FILES: icd, VK_ICD_FILENAMES: icd })
    expect(outcome).toEqual(works("swiftshader"))
    expect((outcome as { info: AdapterInfo }).info.skipped[0]!.reason).toMatch(/Dawn accepts none of .*broken\.json/)
  })

  test("is unpacked into the cache folder", async () => {
    const cache = join(folder, "cache")
    expect(await open(["swiftshader"], { XDG_CACHE_HOME: cache })).toEqual([works("swiftshader")])
    expect(readdirSync(join(cache, "rlpt"))).toEqual([expect.stringMatching(/^swiftshader-[0-9a-f]{16}$/)])
  })

  test("is unpacked into the temp folder where the cache folder cannot be made", async () => {
    const file = join(folder, "file")
    writeFileSync(file, "")
    const env = { ...hidden, XDG_CACHE_HOME: join(file, "cache"), HOME: "", TMPDIR: folder }
    expect(await open(["auto"], env)).toEqual([works("swiftshader")])
    expect(readdirSync(folder)).toContain(`rlpt-${process.getuid!()}`)
  })

  test("is unpacked whole by processes that start together", async () => {
    const env = { ...hidden, XDG_CACHE_HOME: join(folder, "together") }
    const outcomes = await Promise.all([1, 2, 3].map(() => open(["auto"], env)))
    expect(outcomes.flat()).toEqual([1, 2, 3].map(() => works("swiftshader")))
  })
})

describe("choosing", () => {
  test.skipIf(!hasSwiftShader)("RLPT_ADAPTER stands in for auto, and only for auto", async () => {
    expect(await open(["auto"], { RLPT_ADAPTER: "swiftshader" })).toEqual([works("swiftshader")])
    expect(await open(["swiftshader"], { RLPT_ADAPTER: "gpu" })).toEqual([works("swiftshader")])
  })

  test("a name that is no adapter is refused with those that are", async () => {
    const [outcome] = await open(["auto"], { RLPT_ADAPTER: "cuda" })
    expect(outcome).toMatchObject({
      error: "AdapterError",
      message: expect.stringMatching(/"cuda".*auto, gpu, lavapipe, swiftshader/),
    })
  })

  test.skipIf(!hasSwiftShader)("a process stays with its first adapter, which may be opened again", async () => {
    const [first, again, any, other] = await open(["swiftshader", "swiftshader", "auto", "lavapipe"])
    for (const outcome of [first, again, any]) expect(outcome).toEqual(works("swiftshader"))
    expect(other).toMatchObject({ error: "AdapterError", message: expect.stringContaining("use another process") })
  })

  test.skipIf(!hasSwiftShader)("a kind that is not to be had leaves the process free for another", async () => {
    const [gpu, swiftshader] = await open(["gpu", "swiftshader"], hidden)
    expect(gpu).toMatchObject({ error: "AdapterError", message: expect.stringMatching(/"gpu".*\n.*no Vulkan driver/) })
    expect(swiftshader).toEqual(works("swiftshader"))
  })

  test.skipIf(!hasLavapipe)("lavapipe comes before SwiftShader, or the reason tells why not", async () => {
    const [outcome] = await open(["lavapipe"])
    if ("error" in outcome!) expect(outcome.message).toMatch(/too old|turned out|Dawn accepts none/)
    else expect(outcome).toEqual(works("lavapipe"))
    const [auto] = await open(["auto"])
    const { info } = auto as { info: AdapterInfo }
    if (info.isSoftware && !("error" in outcome!)) expect(info.kind).toBe("lavapipe")
  })
})

describe("drivers of the system", () => {
  test("the environment names them before any folder does, the newer variable first", () => {
    const one = join(folder, "one.json")
    const two = join(folder, "two.json")
    for (const file of [one, two]) writeFileSync(file, "{}")
    expect(findDriverFiles({ VK_DRIVER_FILES: `${one}:${two}`, VK_ICD_FILENAMES: "/other.json" })).toEqual([one, two])
    expect(findDriverFiles({ VK_ICD_FILENAMES: two })).toEqual([two])
    expect(findDriverFiles({ VK_ICD_FILENAMES: "/nowhere/icd.json" })).toEqual([])
  })

  test("else they are found in the folders of XDG_DATA_DIRS", () => {
    const icd = join(folder, "data", "vulkan", "icd.d")
    mkdirSync(icd, { recursive: true })
    writeFileSync(join(icd, "some_icd.json"), "{}")
    writeFileSync(join(icd, "notes.txt"), "")
    expect(findDriverFiles({ XDG_DATA_DIRS: join(folder, "data"), HOME: folder })).toContain(join(icd, "some_icd.json"))
  })

  test("Mesa's version is read from the driver's description", () => {
    expect(mesaMajor("llvmpipe: Mesa 22.3.6 (LLVM 15.0.6) 0.0.1")).toBe(22)
    expect(mesaMajor("NVIDIA: 570.133.20 570.133.20")).toBeUndefined()
  })
})
