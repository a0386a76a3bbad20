import { readFileSync } from "node:fs"
import { join } from "node:path"
import { openDevice, readSafetensors, safetensorsToFloat32, valueAndGrad, type Gpu } from "@rlpt/tensor"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import {
  exportAdapter,
  exportModel,
  loadModel,
  mergeAdapter,
  withoutAdapter,
  type Model,
  type Parameters,
} from "../../src/index.ts"
import { expectedOf, filesOf, fixtures, maxDifference, pack } from "../fixtures.ts"

let gpu: Gpu
beforeAll(async () => {
  gpu = await openDevice()
})
afterAll(() => gpu.destroy())

/** Adapters that `make_lora.py` wrote, and the model that each belongs to. */
const cases: Readonly<Record<string, string>> = {
  lora: "llama-gqa",
  rslora: "qwen2",
  dora: "llama3",
  "dora-some": "llama-gqa",
  conv1d: "gpt2",
  "conv1d-dora": "gpt2",
  fused: "phi3",
}

const tensorsOf = (bytes: Uint8Array) =>
  new Map([...readSafetensors(bytes, "test").tensors].map(([name, tensor]) => [name, safetensorsToFloat32(tensor)]))

describe.each(Object.entries(cases))("adapter %s of %s agrees with PEFT", (name, base) => {
  const directory = join(fixtures, "lora", name)
  const expected = tensorsOf(new Uint8Array(readFileSync(join(directory, "expected.safetensors"))))
  const { sequences, floats } = expectedOf(base)
  let model: Model
  beforeAll(async () => {
    model = await loadModel(gpu, join(fixtures, base), { adapter: directory })
  })
  afterAll(() => model.dispose())

  const logitsOf = async ({ decoder, parameters }: Model) =>
    decoder.logits(parameters, decoder.hidden(parameters, pack(gpu, sequences))).data()

  test("logits", async () => {
    expect(maxDifference(await logitsOf(model), expected.get("logits")!)).toBeLessThan(1e-4)
  })

  test("gradients, of the adapter alone", async () => {
    const { decoder, parameters, trainable } = model
    const targets = gpu.tensor(Int32Array.from(sequences.flatMap((sequence) => [...sequence.slice(1), 0])))
    const weights = gpu.tensor(floats("weights") as Float32Array<ArrayBuffer>)
    const input = pack(gpu, sequences)
    const { value, grads } = valueAndGrad(
      (...tensors) => {
        const trained = Object.fromEntries(trainable.map((name, i) => [name, tensors[i]!]))
        const all: Parameters = { ...parameters, ...trained }
        const { logProbs } = decoder.logProbs(all, decoder.hidden(all, input), targets, { temperature: 1 })
        return logProbs.mul(weights).sum()
      },
      trainable.map((name) => parameters[name]!),
    )
    const [loss, ...gradients] = await gpu.readAll([value, ...grads])
    expect(Math.abs(loss![0]! - expected.get("loss")![0]!)).toBeLessThan(1e-4)
    expect(trainable.length).toBe(expected.size - 2)
    for (const [i, { name, parts }] of decoder.adapter!.specs.entries()) {
      const gradient = expected.get(`grad.${parts[0]!.name}`)!
      const scale = gradient.reduce((max, x) => Math.max(max, Math.abs(x)), 0)
      const relative = maxDifference(gradients[i]!, gradient) / scale
      expect({ name, isLarge: scale > 0.01, agrees: relative < 1e-3 }).toEqual({ name, isLarge: true, agrees: true })
    }
  })

  test("merged into the weights, in memory and on disk, it computes the same; without it the base is untouched", async () => {
    const merged = mergeAdapter(model)
    expect(maxDifference(await logitsOf(merged), expected.get("logits")!)).toBeLessThan(1e-4)
    merged.dispose()

    const saved = await loadModel(gpu, await exportModel(model))
    expect(maxDifference(await logitsOf(saved), expected.get("logits")!)).toBeLessThan(1e-4)
    saved.dispose()

    const plain = await loadModel(gpu, join(fixtures, base))
    expect(await logitsOf(withoutAdapter(model))).toEqual(await logitsOf(plain))
    plain.dispose()
  })

  test("is written as PEFT wrote it", async () => {
    const written = await exportAdapter(model, { baseModel: "base" })
    const original = filesOf(directory)
    const tensors = tensorsOf(written["adapter_model.safetensors"]!)
    const wanted = tensorsOf(original["adapter_model.safetensors"]!)
    expect(new Set(tensors.keys())).toEqual(new Set(wanted.keys()))
    for (const [name, values] of wanted) expect(tensors.get(name)).toEqual(values)

    const parse = (files: typeof written) => JSON.parse(new TextDecoder().decode(files["adapter_config.json"]))
    const [ours, theirs] = [parse(written), parse(original)]
    const { base_model_name_or_path: origin, target_modules: _, ...settings } = ours
    expect(origin).toBe("base")
    for (const [key, value] of Object.entries(settings)) expect({ [key]: value }).toEqual({ [key]: theirs[key] })

    const again = await loadModel(gpu, join(fixtures, base), { adapter: written })
    expect(again.trainable).toEqual(model.trainable)
    expect(await logitsOf(again)).toEqual(await logitsOf(model))
    again.dispose()
  })
})
