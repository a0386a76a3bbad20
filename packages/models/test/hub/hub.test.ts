import { existsSync } from "node:fs"
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { openDevice, type Gpu } from "@rlpt/tensor"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest"
import { hubSettings } from "../../src/hub/options.ts"
import { parseModelReference } from "../../src/hub/reference.ts"
import { loadModel, ModelError, resolveModel, type HubOptions, type HubProgress } from "../../src/index.ts"
import { filesOf, fixtures } from "../fixtures.ts"
import { COMMIT, gitHash, startHub, type FakeHub, type HubModel } from "./server.ts"

const filesOfModel = (name: string): Record<string, Uint8Array> => {
  const { "expected.safetensors": _, ...files } = filesOf(join(fixtures, name))
  return files
}
const llama = filesOfModel("llama-gqa")
const sharded = filesOfModel("llama-sharded-f16")
const bytes = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 31) & 255)
const gguf = bytes(50_000)

const models: Readonly<Record<string, HubModel>> = {
  "tiny/llama": {
    files: { ...llama, "README.md": bytes(10), "onnx/model.onnx": bytes(9) },
    large: ["model.safetensors"],
  },
  "tiny/sharded": { files: { ...sharded, "consolidated.safetensors": bytes(99) } },
  "tiny/gated": { files: llama, gated: true },
  "tiny/one-gguf": { files: { "m.Q4_0.gguf": gguf, "README.md": bytes(3) }, large: ["m.Q4_0.gguf"] },
  "tiny/ggufs": { files: { "a.gguf": gguf, "b.gguf": gguf, "sub/c.gguf": bytes(100) } },
  "tiny/pickled": { files: { "config.json": bytes(2), "pytorch_model.bin": bytes(2) } },
}

let gpu: Gpu
let hub: FakeHub
let cacheDirectory: string
let options: HubOptions
beforeAll(async () => {
  gpu = await openDevice()
})
afterAll(() => gpu.destroy())
beforeEach(async () => {
  hub = await startHub(models)
  cacheDirectory = await mkdtemp(join(tmpdir(), "rlpt-hub-"))
  options = { endpoint: hub.endpoint, cacheDirectory, offline: false, timeout: 1000 }
})
afterEach(async () => {
  await hub.close()
  await rm(cacheDirectory, { recursive: true })
})

const rejection = async (source: string, more: HubOptions = {}): Promise<ModelError> => {
  const error: unknown = await resolveModel(source, { ...options, ...more }).catch((error: unknown) => error)
  expect(error).toBeInstanceOf(ModelError)
  return error as ModelError
}

describe("a model of the hub", () => {
  test("loads by its id; only the files that make it are downloaded", async () => {
    const model = await loadModel(gpu, "tiny/llama", { hub: options })
    expect(model.config.vocabSize).toBe(37)
    model.dispose()
    const snapshot = join(cacheDirectory, "models--tiny--llama/snapshots", COMMIT)
    expect((await readdir(snapshot)).sort()).toEqual(["config.json", "generation_config.json", "model.safetensors"])
  })

  test("lies in the cache as the Python library lays it out", async () => {
    const path = await resolveModel("tiny/llama@v1", options)
    const folder = join(cacheDirectory, "models--tiny--llama")
    expect(path).toBe(join(folder, "snapshots", COMMIT))
    expect(await readFile(join(folder, "refs/v1"), "utf8")).toBe(COMMIT)
    const config = llama["config.json"]!
    expect(await readlink(join(path, "config.json"))).toBe(`../../blobs/${gitHash(config)}`)
    expect(new Uint8Array(await readFile(join(folder, "blobs", gitHash(config))))).toEqual(config)
  })

  test("is not downloaded twice, and a commit is not even asked for", async () => {
    await resolveModel("tiny/llama", options)
    hub.requests.length = 0
    await resolveModel("tiny/llama", options)
    expect(hub.requests.filter((line) => line.includes("/resolve/"))).toEqual([])
    hub.requests.length = 0
    expect(await resolveModel(`tiny/llama@${COMMIT}`, options)).toContain(COMMIT)
    expect(hub.requests).toEqual([])
  })

  test("in shards comes with all of them and nothing else", async () => {
    const seen: HubProgress[] = []
    const path = await resolveModel("tiny/sharded", { ...options, onProgress: (progress) => seen.push(progress) })
    expect((await readdir(path)).sort()).toEqual(Object.keys(sharded).sort())
    const last = seen.at(-1)!
    expect(last.loadedBytes).toBe(last.totalBytes)
    expect(last.totalBytes).toBe(Object.values(sharded).reduce((sum, file) => sum + file.length, 0))
  })

  test("as GGUF is a path to the file; of several one must be named", async () => {
    const path = await resolveModel("tiny/one-gguf", options)
    expect(path).toBe(join(cacheDirectory, "models--tiny--one-gguf/snapshots", COMMIT, "m.Q4_0.gguf"))
    expect(new Uint8Array(await readFile(path))).toEqual(gguf)
    expect((await rejection("tiny/ggufs")).message).toBe(
      "tiny/ggufs: has 2 GGUF files; choose one: tiny/ggufs/a.gguf, tiny/ggufs/b.gguf",
    )
    expect(await resolveModel("tiny/ggufs/b.gguf", options)).toMatch(/b\.gguf$/)
    expect(await resolveModel("tiny/ggufs@refs/pr/1/sub/c.gguf", options)).toMatch(/sub\/c\.gguf$/)
    expect((await rejection("tiny/ggufs/d.gguf")).message).toMatch(/^tiny\/ggufs\/d\.gguf: has no file d\.gguf/)
    expect((await rejection("tiny/pickled")).message).toMatch(/has neither config\.json with model\.safetensors/)
  })

  test("with a token, which does not go to the server that large files are on", async () => {
    await resolveModel("tiny/llama", { ...options, token: "right" })
    expect(hub.seenByStore).toEqual([undefined])
  })
})

describe("a download", () => {
  const file = "tiny/one-gguf"
  const downloaded = async () => new Uint8Array(await readFile(await resolveModel(file, options)))
  const ranges = () => hub.requests.flatMap((line) => (line.includes("/resolve/") ? [line.split(" ")[2] ?? "all"] : []))

  test("that is cut goes on where it was, as often as it gets further", async () => {
    for (let i = 0; i < 7; i++) hub.faults.push({ kind: "cut", after: 5000 })
    expect(await downloaded()).toEqual(gguf)
    expect(ranges().length).toBe(8)
    expect(
      ranges()
        .slice(1)
        .every((range) => /^bytes=\d+-$/.test(range)),
    ).toBe(true)
  })

  test("goes on after the process was killed", async () => {
    await resolveModel(file, options)
    const blobs = join(cacheDirectory, "models--tiny--one-gguf/blobs")
    const [blob] = await readdir(blobs)
    await rm(join(cacheDirectory, "models--tiny--one-gguf"), { recursive: true })
    await mkdir(blobs, { recursive: true })
    await writeFile(join(blobs, `${blob}.incomplete`), gguf.subarray(0, 30_000))
    hub.requests.length = 0
    expect(await downloaded()).toEqual(gguf)
    expect(ranges()).toEqual(["bytes=30000-"])
    expect(existsSync(join(blobs, `${blob}.incomplete`))).toBe(false)
  })

  test("starts over where the server knows no ranges", async () => {
    hub.faults.push({ kind: "cut", after: 5000 }, { kind: "no ranges" })
    expect(await downloaded()).toEqual(gguf)
  })

  test("that stalls is given up and tried again", async () => {
    hub.faults.push({ kind: "stall", after: 5000 })
    expect(await downloaded()).toEqual(gguf)
    expect(ranges().length).toBe(2)
  })

  test("is tried again after a server error, but not for ever", async () => {
    hub.faults.push({ kind: "status", status: 503 })
    expect(await downloaded()).toEqual(gguf)
    await rm(join(cacheDirectory, "models--tiny--one-gguf"), { recursive: true })
    for (let i = 0; i < 9; i++) hub.faults.push({ kind: "status", status: 503 })
    expect(await rejection(file, { timeout: 100 })).toMatchObject({
      fault: "network",
      message: expect.stringMatching(/answers 503/),
    })
  })

  test("with other bytes than the hub promised is deleted", async () => {
    hub.faults.push({ kind: "corrupt" })
    const error = await rejection(file)
    expect(error).toMatchObject({
      fault: "checksum",
      message: expect.stringMatching(/has checksum \w{64}, not \w{64}; it was deleted/),
    })
    expect(await readdir(join(cacheDirectory, "models--tiny--one-gguf/blobs"))).toEqual([])
    expect(await downloaded()).toEqual(gguf)
  })
})

describe("what cannot be had is said, and what to do", () => {
  test.each([
    [
      "none/such",
      {},
      "not-found",
      /^none\/such: there is no such directory, and no such model at http.*or it is private and needs HF_TOKEN$/,
    ],
    ["other/llama", {}, "not-found", /did you mean tiny\/llama\?$/],
    ["tiny/llama@v9", {}, "not-found", /^tiny\/llama@v9: has no branch, tag or commit "v9"/],
    [
      "tiny/gated",
      {},
      "unauthorized",
      /^tiny\/gated: is gated; accept its conditions at http.*\/tiny\/gated and set HF_TOKEN/,
    ],
    ["tiny/llama", { token: "wrong" }, "unauthorized", /does not accept the token in HF_TOKEN \(Invalid token\)/],
    [
      "tiny/llama",
      { endpoint: "http://127.0.0.1:1" },
      "network",
      /^tiny\/llama: http:\/\/127\.0\.0\.1:1 cannot be reached/,
    ],
  ] as const)("%s", async (source, more, fault, message) => {
    expect(await rejection(source, more)).toMatchObject({ fault, message: expect.stringMatching(message) })
  })

  test("a text that is neither a path nor an id", async () => {
    for (const source of ["model", "./missing/model", "/missing/model", "a/b/c", "../a/b", "a/../b", "a b/c"]) {
      expect(await rejection(source)).toMatchObject({ fault: "missing-directory" })
    }
    expect(hub.requests).toEqual([])
  })
})

describe("offline", () => {
  test("a cached model is taken from the cache without a request", async () => {
    const path = await resolveModel("tiny/sharded", options)
    hub.requests.length = 0
    expect(await resolveModel("tiny/sharded", { ...options, offline: true })).toBe(path)
    expect(await resolveModel("tiny/sharded@v1", { ...options, offline: true }).catch((error) => error.fault)).toBe(
      "offline",
    )
    expect(hub.requests).toEqual([])
  })

  test("a model that is not, or not all, in the cache is an error", async () => {
    expect(await rejection("tiny/llama", { offline: true })).toMatchObject({
      fault: "offline",
      message: expect.stringMatching(/^tiny\/llama: is not in the cache \(.*\), and HF_HUB_OFFLINE forbids/),
    })
    const path = await resolveModel("tiny/sharded", options)
    await rm(join(path, "model-00003-of-00007.safetensors"))
    expect((await rejection("tiny/sharded", { offline: true })).fault).toBe("offline")
  })

  test("without a network the cache is used, and a warning says so", async () => {
    const path = await resolveModel("tiny/llama", options)
    const warnings: string[] = []
    const unreachable = { ...options, endpoint: "http://127.0.0.1:1", onWarning: (text: string) => warnings.push(text) }
    expect(await resolveModel("tiny/llama", unreachable)).toBe(path)
    expect(warnings).toEqual([
      expect.stringMatching(/^tiny\/llama: http:\/\/127\.0\.0\.1:1 cannot be reached.*taken from the cache$/),
    ])
  })
})

test("the environment says what the Python library would read from it", () => {
  const of = (environment: Record<string, string>) => hubSettings({}, environment)
  expect(of({ HF_HUB_CACHE: "/c", HF_HOME: "/h" }).cacheDirectory).toBe("/c")
  expect(of({ HF_HOME: "/h" }).cacheDirectory).toBe("/h/hub")
  expect(of({ XDG_CACHE_HOME: "/x" }).cacheDirectory).toBe("/x/huggingface/hub")
  expect(of({ HF_ENDPOINT: "https://mirror/" }).endpoint).toBe("https://mirror")
  expect(of({ HF_TOKEN: "t", HF_HUB_OFFLINE: "1" })).toMatchObject({ token: "t", offline: true })
  expect(of({ HF_HUB_OFFLINE: "0" })).toMatchObject({ token: undefined, offline: false })
})

test("references", () => {
  expect(parseModelReference("a/b")).toEqual({ repository: "a/b", revision: "main", file: undefined })
  expect(parseModelReference("a/b@refs/pr/3")).toEqual({ repository: "a/b", revision: "refs/pr/3", file: undefined })
  expect(parseModelReference("a/b@v1/q/c.gguf")).toEqual({ repository: "a/b", revision: "v1", file: "q/c.gguf" })
  for (const text of ["a/b@../x", "a/b@/x", "a--b/c", "a/b/../c.gguf", "a/b/", "a/b@v1/"]) {
    expect(parseModelReference(text)).toBeUndefined()
  }
})
