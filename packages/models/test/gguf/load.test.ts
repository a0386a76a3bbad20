import { existsSync } from "node:fs"
import { copyFile, mkdtemp, rm, truncate, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { openDevice, type Gpu } from "@rlpt/tensor"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { exportModel, loadModel, ModelError, type Model } from "../../src/index.ts"
import { pack, sharedModels } from "../fixtures.ts"
import { f32, text, u32, writeGguf, type Tensor, type Value } from "./write.ts"

let gpu: Gpu
let scratch: string
beforeAll(async () => {
  gpu = await openDevice()
  scratch = await mkdtemp(join(tmpdir(), "rlpt-gguf-"))
})
afterAll(async () => {
  gpu.destroy()
  await rm(scratch, { recursive: true })
})

const stories = join(sharedModels, "stories260K")
const storiesGguf = join(stories, "stories260K-f32.gguf")

describe.skipIf(!existsSync(stories))("stories260K (skipped without the shared models)", () => {
  const logits = async ({ decoder, parameters }: Model, tokens: ReadonlyArray<number>) =>
    decoder
      .hidden(parameters, pack(gpu, [tokens]))
      .matmul(decoder.head(parameters), { transposeB: true })
      .data()

  test("as GGUF is the same model, and the same tokenizer, as the directory", async () => {
    const directory = await loadModel(gpu, stories)
    const gguf = await loadModel(gpu, storiesGguf)
    expect(gguf.config).toEqual(directory.config)
    const prompt = "Once upon a time, there was a naïve little 🙂"
    const tokens = [...directory.tokenizer!.encode(prompt)]
    expect([...gguf.tokenizer!.encode(prompt)]).toEqual(tokens)
    expect(gguf.tokenizer!.decode(tokens)).toBe(directory.tokenizer!.decode(tokens))
    expect(await logits(gguf, tokens)).toEqual(await logits(directory, tokens))
    directory.dispose()
    gguf.dispose()
  })

  test("is found alone in a directory, and exports as a Hugging Face directory", async () => {
    await copyFile(storiesGguf, join(scratch, "alone.gguf"))
    const gguf = await loadModel(gpu, scratch)
    const exported = await exportModel(gguf)
    const again = await loadModel(gpu, exported)
    expect(again.config).toEqual(gguf.config)
    expect(await logits(again, [1, 403, 407])).toEqual(await logits(gguf, [1, 403, 407]))
    await copyFile(storiesGguf, join(scratch, "second.gguf"))
    await expect(loadModel(gpu, scratch)).rejects.toThrow(/holds 2 GGUF files; give the path of one: .*alone\.gguf, /)
    gguf.dispose()
    again.dispose()
  })
})

const metadata: Readonly<Record<string, Value>> = {
  "general.architecture": text("llama"),
  "llama.context_length": u32(32),
  "llama.embedding_length": u32(8),
  "llama.feed_forward_length": u32(4),
  "llama.block_count": u32(1),
  "llama.attention.head_count": u32(2),
  "llama.attention.head_count_kv": u32(1),
  "llama.attention.layer_norm_rms_epsilon": f32(1e-6),
}

const floats = (name: string, shape: ReadonlyArray<number>, value = 0.5): Tensor => {
  const size = shape.reduce((a, b) => a * b, 1)
  return { name, shape, type: 0, data: new Uint8Array(Float32Array.from({ length: size }, (_, i) => value + i).buffer) }
}

const tensors: ReadonlyArray<Tensor> = [
  floats("token_embd.weight", [5, 8]),
  floats("output_norm.weight", [8]),
  floats("blk.0.attn_norm.weight", [8]),
  floats("blk.0.attn_q.weight", [8, 8]),
  floats("blk.0.attn_k.weight", [4, 8]),
  floats("blk.0.attn_v.weight", [4, 8]),
  floats("blk.0.attn_output.weight", [8, 8]),
  floats("blk.0.ffn_norm.weight", [8]),
  floats("blk.0.ffn_gate.weight", [4, 8]),
  floats("blk.0.ffn_up.weight", [4, 8]),
  floats("blk.0.ffn_down.weight", [8, 4]),
]
const file = (changes: ReadonlyArray<Tensor> = [], more: Readonly<Record<string, Value>> = {}) =>
  writeGguf({ ...metadata, ...more }, [
    ...tensors.map((tensor) => changes.find(({ name }) => name === tensor.name) ?? tensor),
    ...changes.filter(({ name }) => !tensors.some((tensor) => tensor.name === name)),
  ])

test("a file in memory loads, without a tokenizer if it has none; rows of query heads go back to halves", async () => {
  const model = await loadModel(gpu, { "m.gguf": file() })
  expect(model.tokenizer).toBeUndefined()
  expect(model.config).toMatchObject({ vocabSize: 5, headDim: 4, norm: { eps: 1e-6 }, tieWordEmbeddings: true })
  const qkv = await model.parameters["layers.0.self_attn.qkv_proj.weight"]!.data()
  const firstOfRows = Array.from({ length: 16 }, (_, row) => (qkv[row * 8]! - 0.5) / 8)
  // Heads of 4 rows in the order 0, 2, 1, 3; the values' 4 rows as they were.
  expect(firstOfRows).toEqual([0, 2, 1, 3, 4, 6, 5, 7, 0, 2, 1, 3, 0, 1, 2, 3])
  model.dispose()
})

describe("a bad file is refused by name, and nothing stays on the GPU", () => {
  const cases: ReadonlyArray<readonly [string, Uint8Array, string, RegExp]> = [
    ["empty", new Uint8Array(0), "invalid-file", /^m\.gguf: does not start with GGUF/],
    ["wrong magic", writeGguf(metadata, tensors, { magic: "GGML" }), "invalid-file", /does not start with GGUF/],
    ["version 1", writeGguf(metadata, tensors, { version: 1 }), "invalid-file", /is GGUF version 1; 2 and 3 are/],
    ["big-endian", writeGguf(metadata, tensors, { version: 3 << 24 }), "invalid-file", /is big-endian/],
    [
      "truncated header",
      file().slice(0, 300),
      "invalid-file",
      /truncated: its header goes on beyond the file's 300 bytes/,
    ],
    [
      "truncated data",
      file().slice(0, -64),
      "invalid-file",
      /truncated: tensor "blk\.0\.ffn_down\.weight" ends at byte/,
    ],
    [
      "unknown architecture",
      file([], { "general.architecture": text("gemma9") }),
      "unsupported",
      /architecture "gemma9" is not supported; the nearest that is: gemma2 \(all: llama, /,
    ],
    [
      "a value that is no number",
      file([], { "llama.block_count": text("1") }),
      "invalid-file",
      /"num_hidden_layers" must be/,
    ],
    ["one part of several", file([], { "split.count": u32(3) }), "unsupported", /is one of 3 parts; join them/],
    ["odd alignment", file([], { "general.alignment": u32(33) }), "invalid-file", /"general\.alignment" is 33/],
    [
      "a type that cannot be read",
      file([{ ...floats("output_norm.weight", [8]), type: 10 }]),
      "unsupported",
      /tensor "output_norm\.weight" is Q2_K, which cannot be read/,
    ],
    [
      "rows that do not fill blocks",
      file([{ ...floats("output_norm.weight", [8]), type: 8 }]),
      "invalid-file",
      /"output_norm\.weight": rows of 8 elements do not fill Q8_0's blocks of 32/,
    ],
    ["no elements", file([floats("output_norm.weight", [0])]), "invalid-file", /has the impossible shape \[0\]/],
    [
      "tensors that share bytes",
      file([{ ...floats("output_norm.weight", [8]), offset: 0 }]),
      "invalid-file",
      /shares bytes with another/,
    ],
    [
      "a missing tensor",
      writeGguf(metadata, tensors.slice(0, -1)),
      "missing-tensor",
      /mlp\.down_proj\.weight" is missing/,
    ],
    [
      "an extra tensor with a path for a name",
      file([floats("../../etc/x", [1])]),
      "unexpected-tensor",
      /tensor "\.\.\/\.\.\/etc\/x" is not part of a llama/,
    ],
    [
      "another shape",
      file([floats("output_norm.weight", [4])]),
      "wrong-shape",
      /"model\.norm\.weight" has shape \[4\]/,
    ],
    ["NaN", file([floats("output_norm.weight", [8], NaN)]), "not-finite", /"model\.norm\.weight" holds NaN/],
    [
      "frequencies that are not Llama 3's",
      file([floats("rope_freqs.weight", [2], 3)]),
      "unsupported",
      /"rope_freqs\.weight" is not Llama 3's RoPE scaling/,
    ],
  ]
  test.each(cases)("%s", async (_, bytes, fault, message) => {
    const before = gpu.memory().inUse
    const error: unknown = await loadModel(gpu, { "m.gguf": bytes }).catch((error: unknown) => error)
    expect(error).toBeInstanceOf(ModelError)
    expect(error).toMatchObject({ fault, message: expect.stringMatching(message) })
    expect(gpu.memory().inUse).toBe(before)
  })

  test("a header of 2 GB is refused without being read", async () => {
    const path = join(scratch, "huge.gguf")
    // One string of 2 GB, in a file that is that large but takes no space.
    const start = writeGguf({ "general.name": text("x") }, [])
    new DataView(start.buffer, start.byteOffset).setBigUint64(24 + 8 + 12 + 4, 2n ** 31n, true)
    await writeFile(path, start)
    await truncate(path, 2 ** 31 + 4096)
    await expect(loadModel(gpu, path)).rejects.toThrow(/huge\.gguf: its header is larger than \d+ bytes/)
  })
})
