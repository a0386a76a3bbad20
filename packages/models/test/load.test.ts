import { existsSync } from "node:fs"
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import {
  openDevice,
  readSafetensors,
  safetensorsFromFloat32,
  SafetensorsError,
  writeSafetensors,
  type Gpu,
  type SafetensorsTensor,
} from "@rlpt/tensor"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { loadModel, ModelError, type ModelFiles } from "../src/index.ts"
import { filesOf, fixtures, llamaFiles, sharedModels } from "./fixtures.ts"

let gpu: Gpu
let scratch: string
beforeAll(async () => {
  gpu = await openDevice()
  scratch = await mkdtemp(join(tmpdir(), "rlpt-models-"))
})
afterAll(async () => {
  gpu.destroy()
  await rm(scratch, { recursive: true })
})

const gqa = llamaFiles("llama-gqa")
const tied = llamaFiles("llama-tied-bf16")
const sharded = llamaFiles("llama-sharded-f16")
const encode = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))
const decode = (bytes: Uint8Array | undefined) => JSON.parse(new TextDecoder().decode(bytes))

/** `files` with its tensors edited. */
const withTensors = (files: ModelFiles, edit: (tensors: Map<string, SafetensorsTensor>) => void): ModelFiles => {
  const { tensors, metadata } = readSafetensors(files["model.safetensors"]!, "fixture")
  const edited = new Map(tensors)
  edit(edited)
  return { ...files, "model.safetensors": writeSafetensors(edited, metadata) }
}

const without = (files: ModelFiles, file: string): ModelFiles =>
  Object.fromEntries(Object.entries(files).filter(([name]) => name !== file))

const Q = "model.layers.1.self_attn.q_proj.weight"
const floats = (shape: readonly number[], value = 1) =>
  safetensorsFromFloat32(new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(value), shape)

describe("a bad model is refused by file and tensor, and nothing stays on the GPU", () => {
  const cases: ReadonlyArray<readonly [string, ModelFiles, string, RegExp]> = [
    ["no config.json", without(gqa, "config.json"), "missing-file", /^config\.json: no such file/],
    [
      "config.json not JSON",
      { ...gqa, "config.json": encode(1).fill(123) },
      "invalid-file",
      /^config\.json: is not JSON/,
    ],
    ["no weights", without(gqa, "model.safetensors"), "missing-file", /^model\.safetensors: neither it nor/],
    [
      "pickled weights only",
      { ...without(gqa, "model.safetensors"), "pytorch_model.bin": encode(0) },
      "missing-file",
      /convert pytorch_model\.bin/,
    ],
    [
      "missing tensor",
      withTensors(gqa, (t) => t.delete(Q)),
      "missing-tensor",
      /^model\.safetensors: tensor ".*1\.self_attn\.q_proj\.weight" is missing/,
    ],
    [
      "extra tensor",
      withTensors(gqa, (t) => t.set("extra", floats([1]))),
      "unexpected-tensor",
      /tensor "extra" is not part of a llama/,
    ],
    [
      "wrong shape",
      withTensors(gqa, (t) => t.set(Q, floats([16, 32]))),
      "wrong-shape",
      /q_proj\.weight" has shape \[16, 32\], but config\.json asks for \[32, 16\]/,
    ],
    [
      "integers",
      withTensors(gqa, (t) => t.set(Q, { ...floats([32, 16]), dtype: "I32" })),
      "wrong-dtype",
      /q_proj\.weight" is I32; weights must be/,
    ],
    [
      "wide integers",
      withTensors(gqa, (t) => t.set(Q, { dtype: "I64", shape: [32, 16], data: new Uint8Array(8 * 32 * 16) })),
      "wrong-dtype",
      /q_proj\.weight" is I64; weights must be/,
    ],
    [
      "NaN",
      withTensors(gqa, (t) => t.set(Q, floats([32, 16], NaN))),
      "not-finite",
      /q_proj\.weight" holds NaN \(element 0 of 512\)/,
    ],
    ["infinity", withTensors(gqa, (t) => t.set(Q, floats([32, 16], -Infinity))), "not-finite", /holds -Infinity/],
    [
      "tied head that differs",
      withTensors(tied, (t) => t.set("lm_head.weight", floats([37, 16]))),
      "unexpected-tensor",
      /"lm_head\.weight" differs from "model\.embed_tokens\.weight"/,
    ],
    [
      "missing shard",
      without(sharded, "model-00003-of-00007.safetensors"),
      "missing-file",
      /^model-00003-of-00007\.safetensors: no such file/,
    ],
    [
      "shard without its tensor",
      { ...sharded, "model-00002-of-00007.safetensors": sharded["model-00001-of-00007.safetensors"]! },
      "missing-tensor",
      /^model-00002-of-00007\.safetensors: tensor ".*" is missing, which model\.safetensors\.index\.json says is here/,
    ],
    [
      "index that leads out",
      { ...sharded, "model.safetensors.index.json": encode({ weight_map: { a: "../x.safetensors" } }) },
      "invalid-file",
      /"weight_map" must give/,
    ],
    [
      "index without a map",
      { ...sharded, "model.safetensors.index.json": encode({}) },
      "invalid-file",
      /"weight_map" must give/,
    ],
    [
      "tokenizer of another model",
      { ...gqa, "tokenizer.json": filesOf(join(fixtures, "byte-bpe"))["tokenizer.json"]! },
      "tokenizer",
      /^tokenizer\.json: has token ids up to \d+, but the model's vocab_size is 37/,
    ],
  ]
  test.each(cases)("%s", async (_, files, fault, message) => {
    const before = gpu.memory().inUse
    const error: unknown = await loadModel(gpu, files).catch((error: unknown) => error)
    expect(error).toBeInstanceOf(ModelError)
    expect(error).toMatchObject({ fault, message: expect.stringMatching(message) })
    expect(gpu.memory().inUse).toBe(before)
  })

  test("a dtype that the format does not have", async () => {
    const header = new TextEncoder().encode('{"ids":{"dtype":"I63","shape":[0],"data_offsets":[0,0]}}        ')
    const bytes = new Uint8Array(8 + header.length)
    bytes[0] = header.length
    bytes.set(header, 8)
    const load = loadModel(gpu, { ...gqa, "model.safetensors": bytes })
    await expect(load).rejects.toThrow(SafetensorsError)
    await expect(load).rejects.toThrow(/^model\.safetensors: tensor "ids": dtype "I63" is none of the format/)
  })

  test("a truncated file", async () => {
    const load = loadModel(gpu, { ...gqa, "model.safetensors": gqa["model.safetensors"]!.slice(0, -10) })
    await expect(load).rejects.toThrow(/^model\.safetensors: tensor ".*": truncated.*; 10 bytes are missing/)
  })
})

describe("a path", () => {
  test("with no directory, or a file, is refused", async () => {
    const file = join(scratch, "file")
    await writeFile(file, "")
    await expect(loadModel(gpu, join(scratch, "absent"))).rejects.toThrow(/absent: there is no such directory/)
    await expect(loadModel(gpu, file)).rejects.toThrow(/file: is a file; give the directory/)
  })

  test("of which a file is none is refused by name", async () => {
    const directory = await mkdtemp(join(tmpdir(), "rlpt-"))
    for (const [file, wrong] of [
      ["config.json", /config\.json: cannot be read \(EISDIR/],
      ["model.safetensors", /model\.safetensors: is no file/],
    ] as const) {
      await mkdir(join(directory, file))
      const load = loadModel(gpu, directory)
      await expect(load).rejects.toThrow(wrong)
      await expect(load).rejects.toThrow(directory)
      await rm(join(directory, file), { recursive: true })
      await writeFile(join(directory, file), gqa[file]!)
    }
    await rm(directory, { recursive: true })
  })

  test("is part of what errors name", async () => {
    const directory = join(scratch, "half")
    await mkdir(directory)
    await writeFile(join(directory, "config.json"), gqa["config.json"]!)
    await expect(loadModel(gpu, directory)).rejects.toThrow(`${join(directory, "model.safetensors")}: neither it nor`)
  })
})

test("what old checkpoints carry along is accepted: inverse frequencies, and a tied head stored twice", async () => {
  const files = withTensors(tied, (tensors) => {
    tensors.set("model.layers.0.self_attn.rotary_emb.inv_freq", floats([4]))
    tensors.set("lm_head.weight", tensors.get("model.embed_tokens.weight")!)
  })
  const model = await loadModel(gpu, files)
  expect(Object.keys(model.parameters)).not.toContain("lm_head.weight")
  model.dispose()
})

test("a GPT-2 as it was published: without its head's prefix, with the causal masks", async () => {
  const files = llamaFiles("gpt2")
  const published = withTensors(files, (tensors) => {
    const entries = Array.from(tensors)
    tensors.clear()
    for (const [name, tensor] of entries) tensors.set(name.replace("transformer.", ""), tensor)
    tensors.set("h.0.attn.bias", floats([1, 1, 24, 24]))
    tensors.set("h.1.attn.masked_bias", floats([1]))
  })
  const [model, same] = [await loadModel(gpu, published), await loadModel(gpu, files)]
  for (const [name, tensor] of Object.entries(model.parameters)) {
    expect(await tensor.data()).toEqual(await same.parameters[name]!.data())
  }
  model.dispose()
  same.dispose()
  const broken = withTensors(published, (tensors) => tensors.delete("h.1.ln_2.bias"))
  await expect(loadModel(gpu, broken)).rejects.toThrow(/"transformer\.h\.1\.ln_2\.bias" is missing/)
})

test("dispose gives all memory back", async () => {
  const before = gpu.memory().inUse
  const model = await loadModel(gpu, gqa)
  expect(gpu.memory().inUse).toBeGreaterThan(before)
  model.dispose()
  expect(gpu.memory().inUse).toBe(before)
})

describe("from scratch", () => {
  const config = { "config.json": gqa["config.json"]! }

  test("needs config.json only; equal seeds give equal weights", async () => {
    const weights = async (seed: number) => {
      const model = await loadModel(gpu, config, { fromScratch: { seed } })
      const data = await Promise.all(Object.values(model.parameters).map((tensor) => tensor.data()))
      model.dispose()
      return data
    }
    const first = await weights(3)
    expect(await weights(3)).toEqual(first)
    expect(await weights(4)).not.toEqual(first)
  })

  test("starts near the uniform distribution", async () => {
    const small = { "config.json": encode({ ...decode(gqa["config.json"]), initializer_range: 0.02 }) }
    const { decoder, parameters, dispose } = await loadModel(gpu, small, { fromScratch: { seed: 0 } })
    const input = {
      tokens: gpu.tensor(Int32Array.of(5, 6)),
      positions: gpu.tensor(Int32Array.of(0, 1)),
      spans: gpu.tensor(Int32Array.of(0, 0, 0, 1, 0, 0, 0, 2), [2, 4]),
    }
    const logits = decoder.hidden(parameters, input).matmul(decoder.head(parameters), { transposeB: true })
    expect(Math.max(...(await logits.data()).map(Math.abs))).toBeLessThan(0.5)
    dispose()
  })
})

const digit = join(sharedModels, "verl-digit")

test.skipIf(!existsSync(digit))(
  "verl's digit model loads, without a tokenizer (skipped without the shared models)",
  async () => {
    const model = await loadModel(gpu, digit)
    expect(model.tokenizer).toBeUndefined()
    expect(model.config).toMatchObject({ vocabSize: 16, numHiddenLayers: 4, bosTokenId: null, eosTokenIds: [1] })
    model.dispose()
  },
)
