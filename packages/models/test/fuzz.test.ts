import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { readSafetensorsHeader, SafetensorsError, safetensorsHeaderBytes } from "@rlpt/tensor"
import { expect, test } from "vitest"
import { memorySource } from "../src/files.ts"
import { configFromGguf } from "../src/gguf/config.ts"
import { Metadata } from "../src/gguf/metadata.ts"
import { readGgufHeader } from "../src/gguf/reader.ts"
import { tokenizerFromGguf } from "../src/gguf/tokenizer.ts"
import { createTokenizer, ModelError, parseConfig } from "../src/index.ts"
import { fixtures } from "./fixtures.ts"
import { f32, text, u32, writeGguf } from "./gguf/write.ts"

/** Mutated files of each kind. CI runs few; RLPT_FUZZ=100000 is what a release is checked with. */
const COUNT = Number(process.env["RLPT_FUZZ"] ?? 5000)
const TIMEOUT = 60_000 + 20 * COUNT

/** mulberry32: the same files in every run. */
const randomOf = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % below
  }
}

/** Numbers at which lengths, counts and offsets go wrong. */
const EDGES = [0n, 1n, 7n, 255n, 2n ** 16n, 2n ** 31n - 1n, 2n ** 31n, 2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]

const mutate = (original: Uint8Array, random: (below: number) => number): Uint8Array => {
  let bytes = Uint8Array.from(original)
  for (let edits = 1 + random(6); edits > 0 && bytes.length > 0; edits--) {
    const at = random(bytes.length)
    switch (random(7)) {
      case 0:
        bytes[at]! ^= 1 << random(8)
        break
      case 1:
        bytes[at] = random(256)
        break
      case 2:
        bytes = bytes.slice(0, at)
        break
      case 3: {
        const end = Math.min(bytes.length, at + 1 + random(40))
        bytes = new Uint8Array(Buffer.concat([bytes.subarray(0, at), bytes.subarray(end)]))
        break
      }
      case 4: {
        const piece = bytes.subarray(at, at + 1 + random(40))
        bytes = new Uint8Array(Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(at)]))
        break
      }
      default: {
        const edge = EDGES[random(EDGES.length)]!
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
        // Length fields of headers lie near the front more often than not.
        const target = Math.min(random(2) === 0 ? random(64) : at, bytes.length - 8)
        if (target >= 0) view.setBigUint64(target, edge, true)
      }
    }
  }
  return bytes
}

/** Runs `read` on mutated files: whatever it throws must be one of the errors that name the file. */
const fuzz = async (
  seeds: ReadonlyArray<Uint8Array>,
  read: (bytes: Uint8Array) => unknown,
  isExpected: (error: unknown) => boolean,
): Promise<{ readonly refused: number; readonly accepted: number }> => {
  const random = randomOf(1)
  const count = { refused: 0, accepted: 0 }
  for (let i = 0; i < COUNT; i++) {
    const bytes = mutate(seeds[i % seeds.length]!, random)
    try {
      await read(bytes)
      count.accepted++
    } catch (error) {
      if (!isExpected(error)) throw new Error(`file ${i}: ${Buffer.from(bytes).toString("base64")}`, { cause: error })
      count.refused++
    }
  }
  return count
}

const isModelError = (error: unknown) => error instanceof ModelError && error.message.startsWith("x")

test("mutated safetensors headers are read or refused by name", { timeout: TIMEOUT }, async () => {
  const files = ["llama-gqa/model.safetensors", "llama-sharded-f16/model-00001-of-00007.safetensors"]
  const seeds = files.map((file) => new Uint8Array(readFileSync(join(fixtures, file))))
  const { refused } = await fuzz(
    // The header alone: the tensors' bytes mean nothing to it.
    seeds.map((bytes) => bytes.subarray(0, safetensorsHeaderBytes(bytes, bytes.length, "seed"))),
    (bytes) => {
      // Half of the time the length is right again, so that what is wrong inside is reached.
      if (bytes.length >= 8 && bytes.length % 2 === 0) {
        new DataView(bytes.buffer).setBigUint64(0, BigInt(bytes.length - 8), true)
      }
      return readSafetensorsHeader(bytes, bytes.length + 1000, "x")
    },
    (error) => error instanceof SafetensorsError && error.message.startsWith("x: "),
  )
  expect(refused).toBeGreaterThan(COUNT / 2)
})

test("mutated GGUF files are read or refused by name", { timeout: TIMEOUT }, async () => {
  const tokenizers = join(fixtures, "gguf-tokenizers")
  const small = {
    "general.architecture": text("llama"),
    "llama.context_length": u32(32),
    "llama.embedding_length": u32(8),
    "llama.feed_forward_length": u32(4),
    "llama.block_count": u32(1),
    "llama.attention.head_count": u32(2),
    "llama.attention.layer_norm_rms_epsilon": f32(1e-6),
    "llama.rope.freq_base": f32(1e4),
    "tokenizer.chat_template": text("{{ messages }}"),
  }
  const data = new Uint8Array(160)
  const seeds = [
    ...readdirSync(tokenizers).flatMap((name) =>
      name.endsWith(".gguf") ? [new Uint8Array(readFileSync(join(tokenizers, name)))] : [],
    ),
    ...Array.from({ length: 12 }, () =>
      writeGguf(small, [{ name: "token_embd.weight", shape: [5, 8], type: 0, data }]),
    ),
  ]
  let reachedConfig = 0
  const { refused, accepted } = await fuzz(
    seeds,
    async (bytes) => {
      const reader = await memorySource({ x: bytes }).open("x")
      const header = await readGgufHeader(reader, "x")
      const metadata = new Metadata(header.metadata, "x")
      const files = tokenizerFromGguf(metadata, "x")
      if (files !== undefined) createTokenizer(files, [], "x").encode("Hello 12 🙂")
      const { config } = configFromGguf(metadata, header.tensors, {}, "x")
      reachedConfig++
      parseConfig(config, "x")
    },
    isModelError,
  )
  expect(refused).toBeGreaterThan(COUNT / 4)
  expect(accepted).toBeGreaterThan(COUNT / 100)
  expect(reachedConfig).toBeGreaterThan(accepted)
})

test("mutated config.json files are read or refused by name", { timeout: TIMEOUT }, async () => {
  const seed = new Uint8Array(readFileSync(join(fixtures, "llama-gqa/config.json")))
  const { refused, accepted } = await fuzz(
    [seed],
    (bytes) => {
      let json: unknown
      try {
        json = JSON.parse(new TextDecoder().decode(bytes))
      } catch {
        // Text that is no JSON never gets this far.
        throw new ModelError("invalid-file", "x", "is not JSON")
      }
      return parseConfig(json, "x")
    },
    isModelError,
  )
  expect(refused).toBeGreaterThan(COUNT / 4)
  expect(accepted).toBeGreaterThan(COUNT / 100)
})
