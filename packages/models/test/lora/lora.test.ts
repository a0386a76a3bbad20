import { join } from "node:path"
import { openDevice, type Gpu } from "@rlpt/tensor"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { exportAdapter, loadModel, withoutAdapter, type LoraOptions, type Model } from "../../src/index.ts"
import { expectedOf, filesOf, fixtures, maxDifference, pack } from "../fixtures.ts"

let gpu: Gpu
beforeAll(async () => {
  gpu = await openDevice()
})
afterAll(() => gpu.destroy())

const base = join(fixtures, "llama-gqa")
const lora: LoraOptions = { r: 3, alpha: 6 }
const { sequences } = expectedOf("llama-gqa")

const hiddenOf = async ({ decoder, parameters }: Model) => decoder.hidden(parameters, pack(gpu, sequences)).data()

const named = (model: Model, end: string) => model.trainable.filter((name) => name.endsWith(end))

describe("a new adapter", () => {
  test("changes nothing, and starts where PEFT's does", async () => {
    const model = await loadModel(gpu, base, { lora })
    expect(await hiddenOf(model)).toEqual(await hiddenOf(withoutAdapter(model)))
    const a = (await model.parameters["model.layers.1.mlp.down_proj.lora_A.weight"]!.data()) as Float32Array
    const bound = 1 / Math.sqrt(20)
    expect(a.length).toBe(3 * 20)
    expect(a.every((x) => Math.abs(x) < bound)).toBe(true)
    expect(Math.max(...a.map(Math.abs))).toBeGreaterThan(0.9 * bound)
    expect(Math.abs(a.reduce((sum, x) => sum + x, 0) / a.length)).toBeLessThan(0.2 * bound)
    for (const name of named(model, "lora_B.weight"))
      expect((await model.parameters[name]!.data()).every((x) => x === 0)).toBe(true)
    model.dispose()
  })

  test("with DoRA starts at the lengths of the rows", async () => {
    const model = await loadModel(gpu, base, { lora: { ...lora, useDora: true } })
    expect(maxDifference(await hiddenOf(model), await hiddenOf(withoutAdapter(model)))).toBeLessThan(1e-5)
    const weight = await model.parameters["layers.0.self_attn.qkv_proj.weight"]!.data()
    // Keys come after four query heads of eight rows.
    const lengths = await model.parameters["model.layers.0.self_attn.k_proj.lora_magnitude_vector"]!.data()
    expect(lengths.length).toBe(16)
    lengths.forEach((length, i) => {
      const row = weight.slice((32 + i) * 16, (33 + i) * 16)
      expect(length).toBeCloseTo(Math.hypot(...row), 5)
    })
    model.dispose()
  })

  test("is the same for the same seed alone", async () => {
    const first = async (seed: number) => {
      const model = await loadModel(gpu, base, { lora: { ...lora, seed } })
      const values = await model.parameters[model.trainable[0]!]!.data()
      model.dispose()
      return values
    }
    expect(await first(1)).toEqual(await first(1))
    expect(await first(1)).not.toEqual(await first(2))
  })
})

describe("target modules", () => {
  const adapted = async (targetModules: string | ReadonlyArray<string>) => {
    const model = await loadModel(gpu, base, { lora: { ...lora, targetModules } })
    const names = named(model, ".lora_A.weight").map((name) => name.replace(".lora_A.weight", ""))
    model.dispose()
    return names
  }

  test("are named in full, by their end, by an expression for the whole name, or all together", async () => {
    expect(await adapted(["v_proj", "model.layers.1.mlp.up_proj"])).toEqual([
      "model.layers.0.self_attn.v_proj",
      "model.layers.1.self_attn.v_proj",
      "model.layers.1.mlp.up_proj",
    ])
    expect(await adapted(String.raw`.*\.1\..*_proj`)).toHaveLength(7)
    expect(await adapted("all-linear")).toHaveLength(14)
  })

  test("that no module has are refused with the names of those that there are", async () => {
    const there = "there are q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"
    await expect(adapted(["q_proj", "query"])).rejects.toThrow(`no linear layer is called "query"; ${there}`)
    await expect(adapted("q_proj")).rejects.toThrow(`no linear layer is called /q_proj/; ${there}`)
    await expect(adapted(["proj"])).rejects.toThrow(/no linear layer is called "proj"/)
    await expect(adapted([])).rejects.toThrow(/names no module/)
  })
})

test.each([
  [{ r: 0, alpha: 1 }, /r must be a whole number/],
  [{ r: 2, alpha: Number.NaN }, /alpha must be a number/],
  [{ r: 2, alpha: 1, dropout: 1 }, /dropout must be in/],
])("refuses %j", async (options, message) => {
  await expect(loadModel(gpu, base, { lora: options })).rejects.toThrow(message)
})

test("an adapter of a critic carries its head", async () => {
  const model = await loadModel(gpu, base, { head: "value", lora })
  expect(named(model, "").slice(-2)).toEqual(["value.weight", "value.bias"])
  gpu.write(model.parameters["value.weight"]!, new Float32Array(16).fill(0.5))
  const files = await exportAdapter(model)
  const loaded = await loadModel(gpu, base, { head: "value", adapter: files })
  expect(await loaded.parameters["value.weight"]!.data()).toEqual(new Float32Array(16).fill(0.5))
  model.dispose()
  loaded.dispose()
})

describe("a stored adapter that does not fit is refused", () => {
  const stored = filesOf(join(fixtures, "lora/lora"))
  const config = JSON.parse(new TextDecoder().decode(stored["adapter_config.json"]))
  const load = (changes: object, model = base) => {
    const json = new TextEncoder().encode(JSON.stringify({ ...config, ...changes }))
    return loadModel(gpu, model, { adapter: { ...stored, "adapter_config.json": json } })
  }

  test.each([
    [{ r: 4 }, /lora_A.weight" has shape \[3, 16\], but/],
    [{ target_modules: ["q_proj"] }, /lora_A.weight" belongs to no module that adapter_config.json names/],
    [{ target_modules: ["q_proj", "v_proj", "o_proj", "down_proj"] }, /o_proj.lora_A.weight" is missing/],
    [{ bias: "all" }, /adapter_config.json: "bias".*all/],
    [{ rank_pattern: { q_proj: 8 } }, /"rank_pattern"/],
    [{ peft_type: "IA3" }, /"peft_type".*IA3/],
    [{ target_modules: 3 }, /"target_modules"/],
  ])("%j", async (changes, message) => {
    await expect(load(changes)).rejects.toThrow(message)
  })

  test("on a model without such modules", async () => {
    await expect(load({}, join(fixtures, "gpt2"))).rejects.toThrow(/no linear layer is called "\w+_proj"/)
  })
})

describe("trainable", () => {
  const trained = async (trainable: NonNullable<Parameters<typeof loadModel>[2]>["trainable"] & {}) => {
    const model = await loadModel(gpu, base, { trainable })
    model.dispose()
    return model.trainable
  }

  test("is all, what an expression finds, or a range of layers", async () => {
    expect(await trained("all")).toHaveLength(15)
    expect(await trained("norm")).toEqual([
      "layers.0.input_layernorm.weight",
      "layers.0.pre_feedforward_layernorm.weight",
      "layers.1.input_layernorm.weight",
      "layers.1.pre_feedforward_layernorm.weight",
      "norm.weight",
    ])
    expect(await trained(["lm_head", String.raw`^model\.norm`])).toEqual(["norm.weight", "lm_head.weight"])
    expect(await trained({ layers: [-1, -1] })).toHaveLength(6)
    expect(await trained({ layers: [0, 1] })).toHaveLength(12)
  })

  test("refuses what selects nothing, or part of a fused parameter", async () => {
    await expect(trained("query")).rejects.toThrow(
      /no parameter's name has \/query\/; names are those of the checkpoint/,
    )
    await expect(trained("q_proj")).rejects.toThrow(/q_proj.weight, .*k_proj.weight, .* are one parameter here/)
    await expect(trained({ layers: [1, 2] })).rejects.toThrow(/\[1, 2\] is no range of the model's 2 layers/)
    await expect(loadModel(gpu, base, { lora, trainable: "norm" })).rejects.toThrow(/the adapter alone is trained/)
  })
})
