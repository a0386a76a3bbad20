import { mkdtemp, readdir, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { openDevice, readSafetensors, type Gpu } from "@rlpt/tensor"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { exportModel, loadModel, ModelError, saveModel } from "../src/index.ts"
import { filesOf, fixtures, llamaFiles, models } from "./fixtures.ts"

let gpu: Gpu
beforeAll(async () => {
  gpu = await openDevice()
})
afterAll(() => gpu.destroy())

const json = (bytes: Uint8Array | undefined) => JSON.parse(new TextDecoder().decode(bytes))
const tensorsOf = (bytes: Uint8Array | undefined) => readSafetensors(bytes!, "model.safetensors")

describe("exportModel", () => {
  const dtypes = { float32: "F32", float16: "F16", bfloat16: "BF16" } as const
  const inOneFile = models.filter(([name]) => name !== "llama-sharded-f16")
  test.each(inOneFile)("%s comes out byte for byte as it went in", async (name, options) => {
    const files = llamaFiles(name)
    const dtype = dtypes[json(files["config.json"]).dtype as keyof typeof dtypes]
    const model = await loadModel(gpu, files, options)
    const exported = await exportModel(model, { dtype })
    expect(Object.keys(exported).sort()).toEqual(Object.keys(files).sort())
    expect(tensorsOf(exported["model.safetensors"])).toEqual(tensorsOf(files["model.safetensors"]))
    expect(json(exported["config.json"])).toEqual(json(files["config.json"]))
    expect(exported["generation_config.json"]).toEqual(files["generation_config.json"])
    model.dispose()
  })

  test("f32 is the default and keeps what f16 shards held", async () => {
    const model = await loadModel(gpu, llamaFiles("llama-sharded-f16"))
    const exported = await exportModel(model)
    expect(json(exported["config.json"]).dtype).toBe("float32")
    const again = await loadModel(gpu, exported)
    for (const [name, tensor] of Object.entries(model.parameters)) {
      expect(await again.parameters[name]!.data()).toEqual(await tensor.data())
    }
    model.dispose()
    again.dispose()
  })

  test("writes floats as floats, which transformers insists on", async () => {
    const model = await loadModel(gpu, llamaFiles("gemma2"))
    const text = new TextDecoder().decode((await exportModel(model))["config.json"])
    expect(text).toMatch(/"final_logit_softcapping": 3\.0,\n/)
    expect(text).toMatch(/"rope_theta": 100\.0,\n/)
    expect(text).toMatch(/"query_pre_attn_scalar": 6,\n/)
    model.dispose()
  })

  test("hands the tokenizer's files through and writes a generation_config.json if there was none", async () => {
    const { "generation_config.json": _, ...files } = llamaFiles("llama-gqa")
    const config = { ...json(files["config.json"]), vocab_size: 400 }
    const tokenizer = filesOf(join(fixtures, "byte-bpe"))
    const model = await loadModel(
      gpu,
      { "config.json": new TextEncoder().encode(JSON.stringify(config)), ...tokenizer },
      { fromScratch: { seed: 1 } },
    )
    const exported = await exportModel(model)
    expect(exported).toMatchObject(tokenizer)
    expect(json(exported["generation_config.json"])).toEqual({ bos_token_id: 1, eos_token_id: 2 })
    model.dispose()
  })

  test("a critic is written as a token classifier and comes back with its head", async () => {
    const base = await loadModel(gpu, llamaFiles("llama-gqa"), { head: "value" })
    const head = Float32Array.from({ length: 16 }, (_, i) => i / 8)
    const parameters = { ...base.parameters, "value.weight": gpu.tensor(head, [1, 16]) }
    const exported = await exportModel(base, { parameters })
    expect(json(exported["config.json"]).architectures).toEqual(["LlamaForTokenClassification"])
    expect(tensorsOf(exported["model.safetensors"]).tensors.get("score.weight")!.shape).toEqual([1, 16])
    const again = await loadModel(gpu, exported, { head: "value" })
    expect(await again.parameters["value.weight"]!.data()).toEqual(head)
    await expect(loadModel(gpu, exported)).rejects.toThrow(/tensor "lm_head\.weight" is missing/)
    base.dispose()
    again.dispose()
  })

  test("a broken model is not written", async () => {
    const model = await loadModel(gpu, llamaFiles("llama-gqa"))
    const parameters = { ...model.parameters, "norm.weight": gpu.full([16], NaN) }
    await expect(exportModel(model, { parameters })).rejects.toThrow(ModelError)
    await expect(exportModel(model, { parameters })).rejects.toThrow(/"model\.norm\.weight" holds NaN or infinity/)
    model.dispose()
  })
})

describe("weights above the limit", () => {
  test("are split into shards, which load as the model; a tensor is never cut", async () => {
    const model = await loadModel(gpu, llamaFiles("llama-gqa"))
    const exported = await exportModel(model, { maxShardBytes: 8000 })
    const index = json(exported["model.safetensors.index.json"])
    const shards = [...new Set(Object.values<string>(index.weight_map))]
    expect(shards.length).toBeGreaterThan(2)
    expect(shards[0]).toBe(`model-00001-of-0000${shards.length}.safetensors`)
    expect(exported["model.safetensors"]).toBeUndefined()
    let total = 0
    for (const shard of shards) {
      const { tensors } = tensorsOf(exported[shard])
      const bytes = [...tensors.values()].reduce((sum, { data }) => sum + data.length, 0)
      expect(bytes <= 8000 || tensors.size === 1).toBe(true)
      expect([...tensors.keys()].every((name) => index.weight_map[name] === shard)).toBe(true)
      total += bytes
    }
    expect(index.metadata.total_size).toBe(total)
    const again = await loadModel(gpu, exported)
    for (const [name, tensor] of Object.entries(model.parameters)) {
      expect(await again.parameters[name]!.data()).toEqual(await tensor.data())
    }
    model.dispose()
    again.dispose()
  })

  test("are written to a directory file by file, in place of what was there", async () => {
    const directory = await mkdtemp(join(tmpdir(), "rlpt-save-"))
    const model = await loadModel(gpu, llamaFiles("llama-tied-bf16"))
    await saveModel(model, directory, { dtype: "BF16" })
    expect(await readdir(directory)).toContain("model.safetensors")
    await saveModel(model, directory, { dtype: "BF16", maxShardBytes: 3000 })
    const files = filesOf(directory)
    expect(Object.keys(files)).not.toContain("model.safetensors")
    expect(files).toEqual(await exportModel(model, { dtype: "BF16", maxShardBytes: 3000 }))
    const again = await loadModel(gpu, directory)
    expect(again.config).toEqual(model.config)
    model.dispose()
    again.dispose()
    await rm(directory, { recursive: true })
  })
})
