import { readdirSync } from "node:fs"
import { join } from "node:path"
import {
  grad,
  openDevice,
  readSafetensors,
  rehearsalOf,
  safetensorsFromFloat32,
  writeSafetensors,
  type Gpu,
} from "@rlpt/tensor"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { exportModel, loadModel, withoutAdapter, type LoadOptions, type Model } from "../src/index.ts"
import { expectedOf, fixtures, llamaFiles, pack } from "./fixtures.ts"
import { quantizedTensor as tensor, type Stored } from "./gguf/quantized.ts"
import { f32, text, u32, writeGguf, type Tensor } from "./gguf/write.ts"

let gpu: Gpu
beforeAll(async () => {
  gpu = await openDevice()
})
afterAll(() => gpu.destroy())

const layer = (i: number, [q, k, v, o, gate, up, down]: Layer): readonly Tensor[] => [
  tensor(`blk.${i}.attn_norm`, [256], "F32"),
  tensor(`blk.${i}.attn_q`, [256, 256], q),
  tensor(`blk.${i}.attn_k`, [128, 256], k),
  tensor(`blk.${i}.attn_v`, [128, 256], v),
  tensor(`blk.${i}.attn_output`, [256, 256], o),
  tensor(`blk.${i}.ffn_norm`, [256], "F32"),
  tensor(`blk.${i}.ffn_gate`, [256, 256], gate),
  tensor(`blk.${i}.ffn_up`, [256, 256], up),
  tensor(`blk.${i}.ffn_down`, [256, 256], down),
]

type Layer = readonly [q: Stored, k: Stored, v: Stored, o: Stored, gate: Stored, up: Stored, down: Stored]

/** Every quantised type, alone and beside others in a projection. */
const mixed: readonly Layer[] = [
  ["Q4_K", "Q4_K", "Q6_K", "Q5_1", "Q4_1", "Q4_1", "Q5_0"],
  ["Q8_0", "Q8_0", "Q5_0", "Q6_K", "Q4_0", "Q4_0", "Q5_K"],
]
/** One type, so that few kernels have to be compiled. */
const uniform: readonly Layer[] = [["Q4_K", "Q4_K", "Q4_K", "Q4_K", "Q4_K", "Q4_K", "Q4_K"]]

/** A Llama with weights of these types. */
const quantized = (layers = mixed, changes: readonly Tensor[] = []) => {
  const metadata = {
    "general.architecture": text("llama"),
    "llama.context_length": u32(32),
    "llama.embedding_length": u32(256),
    "llama.feed_forward_length": u32(256),
    "llama.block_count": u32(layers.length),
    "llama.attention.head_count": u32(4),
    "llama.attention.head_count_kv": u32(2),
    "llama.attention.layer_norm_rms_epsilon": f32(1e-6),
  }
  const tensors = [
    tensor("token_embd", [40, 256], "Q4_0"),
    tensor("output_norm", [256], "F32"),
    ...layers.flatMap((types, i) => layer(i, types)),
  ]
  const named = (name: string) => changes.find((change) => change.name === name)
  return {
    "m.gguf": writeGguf(
      metadata,
      tensors.map((each) => named(each.name) ?? each),
    ),
  }
}

const lora = { r: 4, alpha: 8 }
const tokens = [
  [3, 1, 4, 1],
  [39, 7],
]

/** Logits, and gradients of what is trained of a sum of log-probabilities, as bits. */
const resultsOf = async (
  { decoder, parameters, trainable }: Model,
  sequences: readonly ArrayLike<number>[] = tokens,
) => {
  const input = pack(gpu, sequences)
  const hidden = decoder.hidden(parameters, input)
  const { logProbs } = decoder.logProbs(parameters, hidden, input.tokens, { temperature: 1 })
  const gradients = grad(
    logProbs.sum(),
    trainable.map((name) => parameters[name]!),
  )
  const arrays = await gpu.readAll([decoder.logits(parameters, hidden), logProbs, ...gradients])
  return arrays.map(({ buffer }) => new Uint32Array(buffer))
}

const logitsOf = ({ decoder, parameters }: Model, sequences: readonly ArrayLike<number>[] = tokens) =>
  decoder.logits(parameters, decoder.hidden(parameters, pack(gpu, sequences))).data()

/** Gives B values, which starts at zero. */
const disturb = (model: Model) => {
  model.trainable.forEach((name, i) => {
    if (name.endsWith("lora_B.weight"))
      gpu.write(
        model.parameters[name]!,
        Float32Array.from({ length: model.parameters[name]!.size }, (_, j) => Math.sin(i + j) / 50),
      )
  })
  return model
}

const dtypesOf = ({ parameters, decoder }: Model) =>
  Object.fromEntries(decoder.specs.map(({ name }) => [name, parameters[name]!.dtype]))

describe("a frozen quantised base", () => {
  test("stays as the file stores it; what is fused of several types takes the one that holds them all", async () => {
    const before = gpu.memory().inUse
    const model = await loadModel(gpu, quantized(), { lora })
    const quantizedBytes = gpu.memory().byOwner["parameters"]!
    expect(dtypesOf(model)).toMatchObject({
      "embed_tokens.weight": "int4:32",
      "norm.weight": "f32",
      "layers.0.self_attn.qkv_proj.weight": "int8:16:offset",
      "layers.0.self_attn.o_proj.weight": "int8:32:offset",
      "layers.0.mlp.gate_up_proj.weight": "uint4:32:offset",
      "layers.0.mlp.down_proj.weight": "int8:32",
      "layers.1.self_attn.qkv_proj.weight": "int8:32",
      "layers.1.self_attn.o_proj.weight": "int8:16",
      "layers.1.mlp.gate_up_proj.weight": "int4:32",
      "layers.1.mlp.down_proj.weight": "int8:32:offset",
    })
    model.dispose()
    expect(gpu.memory().inUse).toBe(before)
    const wide = await loadModel(gpu, quantized(), { lora, dtype: "float32" })
    expect(quantizedBytes).toBeLessThan(0.4 * gpu.memory().byOwner["parameters"]!)
    wide.dispose()
  })

  test("holds the numbers of the dequantised one", async () => {
    const model = await loadModel(gpu, quantized(), { frozen: true })
    const wide = await loadModel(gpu, quantized(), { frozen: true, dtype: "float32" })
    for (const { name } of model.decoder.specs)
      expect(await model.parameters[name]!.data()).toEqual(await wide.parameters[name]!.data())
    expect(await exportModel(model)).toEqual(await exportModel(wide))
    model.dispose()
    wide.dispose()
  })

  test.each([{}, { useDora: true }])("%j: computes and learns the bits of the dequantised one", async (more) => {
    const options = { lora: { ...lora, ...more } }
    const model = disturb(await loadModel(gpu, quantized(uniform), options))
    const wide = disturb(await loadModel(gpu, quantized(uniform), { ...options, dtype: "float32" }))
    expect(await resultsOf(model)).toEqual(await resultsOf(wide))
    expect(await logitsOf(withoutAdapter(model))).toEqual(await logitsOf(withoutAdapter(wide)))
    expect(await exportModel(model)).toEqual(await exportModel(wide))
    model.dispose()
    wide.dispose()
  })

  test("needs no adapter where nothing is trained", async () => {
    const model = await loadModel(gpu, quantized(uniform), { frozen: true })
    const wide = await loadModel(gpu, quantized(uniform), { frozen: true, dtype: "float32" })
    expect(model.trainable).toEqual([])
    expect(model.parameters["embed_tokens.weight"]!.dtype).toBe("int4:32")
    expect(await logitsOf(model)).toEqual(await logitsOf(wide))
    model.dispose()
    wide.dispose()
  })

  test("is planned to the byte", async () => {
    const plan = rehearsalOf(gpu)
    const planned = await loadModel(plan, quantized(), { lora })
    const before = gpu.memory().byOwner["parameters"] ?? 0
    const model = await loadModel(gpu, quantized(), { lora })
    expect(dtypesOf(planned)).toEqual(dtypesOf(model))
    expect(plan.memory().byOwner["parameters"]).toBe(gpu.memory().byOwner["parameters"]! - before)
    model.dispose()
  })

  test("cannot be trained itself, nor hold what is not finite", async () => {
    const before = gpu.memory().inUse
    await expect(loadModel(gpu, quantized(), { dtype: "auto" })).rejects.toThrow(
      /dtype: "auto" would keep embed_tokens\.weight quantised, and it is to be trained: use float32/,
    )
    const broken = tensor("blk.1.attn_v", [128, 256], "Q8_0")
    broken.data.set([0, 0x7e], 34)
    await expect(loadModel(gpu, quantized(mixed, [broken]), { lora })).rejects.toThrow(
      /m\.gguf: tensor "model\.layers\.1\.self_attn\.v_proj\.weight" holds NaN/,
    )
    expect(gpu.memory().inUse).toBe(before)
  })
})

describe("weights of f16 and bf16", () => {
  const load = (name: string, options: LoadOptions) => loadModel(gpu, llamaFiles(name), options)

  test.each([
    ["llama-sharded-f16", "f16"],
    ["llama-tied-bf16", "bf16"],
  ] as const)("%s: a frozen base stays so, and has the bits of the one in f32", async (name, dtype) => {
    const { sequences } = expectedOf(name)
    const model = disturb(await load(name, { lora }))
    const wide = disturb(await load(name, { lora, dtype: "float32" }))
    const dtypes = Object.entries(dtypesOf(model)).map(([of, kept]) => kept === (of.includes("norm") ? "f32" : dtype))
    expect(dtypes.every(Boolean)).toBe(true)
    expect(await logitsOf(model, sequences)).toEqual(await logitsOf(wide, sequences))
    model.dispose()
    wide.dispose()
  })

  test.each(readdirSync(join(fixtures, "gguf-models")).filter((name) => name.endsWith(".gguf")))(
    "%s, whatever the converter did to it, has the same logits as it is stored",
    async (name) => {
      const options = { contextLength: 24, trainable: "norm|ln_" } as const
      const path = join(fixtures, "gguf-models", name)
      const model = await loadModel(gpu, path, options)
      const wide = await loadModel(gpu, path, { ...options, dtype: "float32" })
      expect(Object.values(dtypesOf(model))).toContain("f16")
      const sequences = [[1, 2, 3, 5, 8, 13, 21]]
      expect(await logitsOf(model, sequences)).toEqual(await logitsOf(wide, sequences))
      model.dispose()
      wide.dispose()
    },
  )

  test("what is asked for is rounded to", async () => {
    const wide = await load("llama-gqa", {})
    expect(new Set(Object.values(dtypesOf(wide)))).toEqual(new Set(["f32"]))
    for (const [dtype, kept] of [
      ["bfloat16", "bf16"],
      ["float16", "f16"],
    ] as const) {
      const model = await load("llama-gqa", { dtype })
      const name = "layers.0.mlp.down_proj.weight"
      expect(model.parameters[name]!.dtype).toBe(kept)
      expect(await model.parameters[name]!.data()).toEqual(await wide.parameters[name]!.cast(kept).data())
      model.dispose()
    }
    wide.dispose()
  })

  test("what cannot be kept so is refused", async () => {
    const name = "model.layers.0.mlp.down_proj.weight"
    const holding = (value: number, dtype: "F32" | "F16") => {
      const files = llamaFiles("llama-gqa")
      const { metadata, tensors } = readSafetensors(files["model.safetensors"]!, "fixture")
      const { shape } = tensors.get(name)!
      const values = new Float32Array(shape.reduce((a, b) => a * b, 1))
      values[5] = value
      const changed = new Map(tensors).set(name, safetensorsFromFloat32(values, shape, dtype))
      return { ...files, "model.safetensors": writeSafetensors(changed, metadata) }
    }
    await expect(loadModel(gpu, holding(1e5, "F32"), { dtype: "float16" })).rejects.toThrow(
      /^dtype: layers\.0\.mlp\.down_proj\.weight holds 100000, and float16 ends at 65504: use bfloat16 or float32$/,
    )
    await expect(loadModel(gpu, holding(Number.NaN, "F16"), { lora })).rejects.toThrow(
      /^model\.safetensors: tensor "model\.layers\.0\.mlp\.down_proj\.weight" holds NaN \(element 5 of \d+\)/,
    )
  })
})
