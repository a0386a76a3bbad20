import { Effect, FileSystem } from "effect"
import { afterEach, beforeEach, expect, test, vi } from "vitest"
import { findModel, pinned } from "../src/model-place.ts"
import { withFiles } from "./support.ts"

const commit = "0123456789abcdef0123456789abcdef01234567"

beforeEach(() => void vi.stubEnv("HF_HUB_OFFLINE", "1"))
afterEach(() => void vi.unstubAllEnvs())

const choose = (cache: string, model: string) => {
  vi.stubEnv("HF_HUB_CACHE", cache)
  return findModel({ model, root: cache, origin: "--model" })
}

test("a model of the hub is its directory in the cache", () =>
  Effect.runPromise(
    withFiles({}, (cache) =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const folder = `${cache}/models--org--tiny`
        const snapshot = `${folder}/snapshots/${commit}`
        yield* Effect.forEach([`${folder}/refs`, snapshot], (path) => fs.makeDirectory(path, { recursive: true }))
        yield* fs.writeFileString(`${folder}/refs/main`, commit)
        for (const file of ["config.json", "model.safetensors"]) yield* fs.writeFileString(`${snapshot}/${file}`, "{}")
        expect(yield* choose(cache, "org/tiny")).toEqual({
          model: snapshot,
          name: "org/tiny",
          pinned: `org/tiny@${commit}`,
        })
        const config = { model: "org/tiny", seed: 1 }
        expect(pinned(config, yield* choose(cache, "org/tiny"))).toEqual({ model: `org/tiny@${commit}`, seed: 1 })
        expect(yield* choose(cache, `org/tiny@${commit}`)).toMatchObject({ model: snapshot, name: "org/tiny" })
      }),
    ),
  ))

test("one that cannot be had is an error of the configuration, where the model was named", () =>
  Effect.runPromise(
    withFiles({}, (cache) =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(choose(cache, "org/other"))
        expect(error.message).toBe(
          `--model  model: org/other: is not in the cache (${cache}), and HF_HUB_OFFLINE forbids to download it`,
        )
      }),
    ),
  ))

test("a GGUF file is taken as it is, and a missing one is not looked for on the hub", () =>
  Effect.runPromise(
    withFiles({ "m.gguf": "" }, (directory) =>
      Effect.gen(function* () {
        expect(yield* choose(directory, "m.gguf")).toMatchObject({ model: `${directory}/m.gguf` })
        const error = yield* Effect.flip(choose(directory, "./n.gguf"))
        expect(error.message).toContain(`${directory}/n.gguf is not a Hugging Face directory`)
      }),
    ),
  ))
