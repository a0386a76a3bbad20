import { describe, expect, it } from "@effect/vitest"
import type { Checkpoint } from "@rlpt/core"
import { Effect, Fiber } from "effect"
import { createHash } from "node:crypto"
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs"
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { onTestFinished } from "vitest"
import local from "../src/index.ts"
import { localStore } from "../src/store.ts"

const folder = (): string => {
  const directory = mkdtempSync(join(tmpdir(), "rlpt-store-"))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

const bytes = (text: string) => new TextEncoder().encode(text)

const checkpoint = (step: number, content = "weights"): Checkpoint => ({
  step,
  files: {
    "model.safetensors": bytes(`${content} of ${step}`),
    "state.json": bytes(`{"step":${step}}`),
    "adapter/adapter.safetensors": new Uint8Array(0),
  },
})

describe("checkpoint store", () => {
  it.effect("gives back what was put, to the byte", () =>
    Effect.gen(function* () {
      const store = yield* localStore(join(folder(), "deep/checkpoints"))
      expect(yield* store.list).toEqual([])
      for (const step of [10, 9, 100, 0]) yield* store.put(checkpoint(step))
      expect(yield* store.list).toEqual([0, 9, 10, 100])
      for (const step of [0, 9, 10, 100]) expect(yield* store.get(step)).toEqual(checkpoint(step))
      yield* store.delete(9)
      yield* store.delete(9)
      expect(yield* store.list).toEqual([0, 10, 100])
      const error = yield* Effect.flip(store.get(9))
      expect(error.reason).toBe("not-found")
      expect(error.message).toContain("there is no checkpoint of step 9 in")
    }),
  )

  it.effect("writes a manifest that other tools can check, and leaves nothing else behind", () =>
    Effect.gen(function* () {
      const directory = folder()
      const store = yield* localStore(directory)
      yield* store.put(checkpoint(3))
      const manifest = JSON.parse(readFileSync(join(directory, "step-3/manifest.json"), "utf8"))
      const sha256 = createHash("sha256").update("weights of 3").digest("hex")
      expect(manifest).toMatchObject({ format: 1, step: 3, files: { "model.safetensors": { size: 12, sha256 } } })
      expect(readdirSync(directory)).toEqual(["step-3"])
    }),
  )

  it.effect("replaces a checkpoint of the same step", () =>
    Effect.gen(function* () {
      const directory = folder()
      const store = yield* localStore(directory)
      yield* store.put(checkpoint(3, "old"))
      yield* store.put(checkpoint(3, "new"))
      expect(yield* store.get(3)).toEqual(checkpoint(3, "new"))
      expect(readdirSync(directory)).toEqual(["step-3"])
    }),
  )

  it.effect("writes one at a time, and finishes what it has begun before an interruption takes effect", () =>
    Effect.gen(function* () {
      const directory = folder()
      const store = yield* localStore(directory)
      yield* Effect.forEach([1, 2, 3, 4], (step) => store.put(checkpoint(step)), { concurrency: "unbounded" })
      expect(yield* store.list).toEqual([1, 2, 3, 4])
      const fiber = yield* Effect.forkChild(store.put(checkpoint(5)), { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      expect(yield* store.list).toEqual([1, 2, 3, 4, 5])
    }),
  )

  it.effect("refuses file names that lead out of the folder or hide the manifest", () =>
    Effect.gen(function* () {
      const directory = folder()
      const store = yield* localStore(join(directory, "store"))
      for (const name of ["../out", "/etc/out", "a/../../out", "manifest.json", "", "a//b", "a\\b"]) {
        const error = yield* Effect.flip(store.put({ step: 1, files: { [name]: bytes("x") } }))
        expect(error).toMatchObject({ reason: "io", message: expect.stringContaining("cannot be the name of a file") })
      }
      expect(readdirSync(directory)).toEqual([])
    }),
  )
})

describe("damage", () => {
  const damaged = (harm: (home: string) => void) =>
    Effect.gen(function* () {
      const directory = folder()
      const store = yield* localStore(directory)
      yield* store.put(checkpoint(1))
      yield* store.put(checkpoint(2))
      harm(join(directory, "step-2"))
      const error = yield* Effect.flip(store.get(2))
      expect(yield* store.get(1)).toEqual(checkpoint(1))
      return { reason: error.reason, message: error.message, list: yield* store.list }
    })

  it.effect("of one byte is found, and the file named", () =>
    Effect.gen(function* () {
      const { reason, message, list } = yield* damaged((home) =>
        writeFileSync(join(home, "model.safetensors"), "weights of 9"),
      )
      expect({ reason, list }).toEqual({ reason: "corrupt", list: [1, 2] })
      expect(message).toMatch(/step-2\/model\.safetensors is damaged: its SHA-256 .* resume from an earlier one/)
    }),
  )

  it.effect("that a glance at sizes shows keeps the checkpoint off the list", () =>
    Effect.gen(function* () {
      const cut = yield* damaged((home) => truncateSync(join(home, "model.safetensors"), 5))
      expect(cut).toMatchObject({ reason: "corrupt", list: [1] })
      expect(cut.message).toContain("it has 5 bytes instead of 12")
      const gone = yield* damaged((home) => rmSync(join(home, "state.json")))
      expect(gone).toMatchObject({ reason: "corrupt", list: [1] })
      expect(gone.message).toContain("state.json is damaged: it is missing")
      const torn = yield* damaged((home) => writeFileSync(join(home, "manifest.json"), `{"format":1,`))
      expect(torn).toMatchObject({ reason: "corrupt", list: [1] })
      const bare = yield* damaged((home) => rmSync(join(home, "manifest.json")))
      expect(bare).toMatchObject({ reason: "not-found", list: [1] })
    }),
  )
})

describe("a full disk", () => {
  it.effect.skipIf(!existsSync("/dev/full"))("is reported as such, and costs no earlier checkpoint", () =>
    Effect.gen(function* () {
      const directory = folder()
      yield* (yield* localStore(directory)).put(checkpoint(1))
      // /dev/full refuses every write as a full disk does: the error is the system's own.
      const onFullDisk = (path: string, flags: string) =>
        path.endsWith("state.json") ? fs.open("/dev/full", "w") : fs.open(path, flags)
      const store = yield* localStore(directory, onFullDisk)
      const error = yield* Effect.flip(store.put(checkpoint(2)))
      expect(error.reason).toBe("no-space")
      expect(error.message).toMatch(
        /^no space left while writing the checkpoint of step 2 \(0\.0 MB\) in .*; free some/,
      )
      expect(readdirSync(directory)).toEqual(["step-1"])
      expect((yield* Effect.flip(store.put(checkpoint(1, "other")))).reason).toBe("no-space")
      expect(yield* store.get(1)).toEqual(checkpoint(1))
    }),
  )

  it.effect("leaves a folder that cannot be written to as it was", () =>
    Effect.gen(function* () {
      const directory = folder()
      writeFileSync(join(directory, "file"), "")
      const store = yield* localStore(join(directory, "file"))
      const error = yield* Effect.flip(store.put(checkpoint(1)))
      expect(error.reason).toBe("io")
      expect(yield* store.list).toEqual([])
    }),
  )
})

describe("a crash", () => {
  it.effect("leaves folders that the next write clears away, but not those of a process that still writes", () =>
    Effect.gen(function* () {
      const directory = folder()
      const store = yield* localStore(directory)
      yield* store.put(checkpoint(1))
      const dead = Bun.spawnSync([process.execPath, "-e", "console.log(process.pid)"]).stdout.toString().trim()
      mkdirSync(join(directory, `.step-2.${dead}.x.tmp`))
      mkdirSync(join(directory, `.step-2.${process.ppid}.x.tmp`))
      mkdirSync(join(directory, `.step-2.${process.pid}.x.tmp`))
      mkdirSync(join(directory, "step-x"))
      expect(yield* store.list).toEqual([1])
      yield* store.put(checkpoint(3))
      expect(readdirSync(directory).toSorted()).toEqual([`.step-2.${process.ppid}.x.tmp`, "step-1", "step-3", "step-x"])
    }),
  )

  it.effect("between the two renames of a replacement loses nothing", () =>
    Effect.gen(function* () {
      const directory = folder()
      const store = yield* localStore(directory)
      yield* store.put(checkpoint(1))
      yield* Effect.promise(() => fs.rename(join(directory, "step-1"), join(directory, ".step-1.old")))
      yield* store.put(checkpoint(2))
      expect(yield* store.get(1)).toEqual(checkpoint(1))
    }),
  )

  it.live("at any moment leaves only whole checkpoints", () =>
    Effect.gen(function* () {
      const directory = folder()
      const writer = join(import.meta.dirname, "fixtures/writer.ts")
      for (let round = 0; round < 6; round++) {
        const child = Bun.spawn([process.execPath, writer, directory], { stdout: "pipe" })
        const reader = child.stdout.getReader()
        // Killed at a moment of its own in each round: so many checkpoints in, and so many milliseconds into the next.
        for (let written = 0; written <= round;) {
          const { value, done } = yield* Effect.promise(() => reader.read())
          if (done) return expect.unreachable("the writer ended by itself")
          written += [...(value ?? [])].filter((byte) => byte === 10).length
        }
        yield* Effect.sleep(round * 1.7)
        child.kill("SIGKILL")
        yield* Effect.promise(() => child.exited)

        const store = yield* localStore(directory)
        const steps = yield* store.list
        expect(steps.length).toBeGreaterThan(0)
        for (const step of steps) {
          const { files } = yield* store.get(step)
          for (const content of Object.values(files)) expect(content.every((byte) => byte === step)).toBe(true)
        }
        const visible = readdirSync(directory).filter((name) => !name.startsWith("."))
        expect(visible.toSorted()).toEqual(steps.map((step) => `step-${step}`).toSorted())
      }
    }),
  )
})

describe("the plugin", () => {
  it.effect("keeps checkpoints in the run's folder unless told otherwise", () =>
    Effect.gen(function* () {
      const root = folder()
      const context = { directory: join(root, "config"), runDirectory: join(root, "runs/a") }
      const open = (options: unknown) =>
        Effect.scoped(Effect.flatMap(local.configure(options), (make) => make(context)))
      yield* (yield* open(undefined)).put(checkpoint(1))
      yield* (yield* open({ directory: "../elsewhere" })).put(checkpoint(2))
      expect(readdirSync(join(root, "runs/a/checkpoints"))).toEqual(["step-1"])
      expect(readdirSync(join(root, "elsewhere"))).toEqual(["step-2"])
    }),
  )
})
