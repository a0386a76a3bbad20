import { existsSync } from "node:fs"
import { join } from "node:path"
import { logProbsOf, openDevice, readSafetensors, valueAndGrad, type Gpu } from "@rlpt/tensor"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { exportModel, loadModel, type KvCache, type Model, type Parameters } from "../src/index.ts"
import { transpose } from "../src/transpose.ts"
import { expectedOf, fixtures, maxDifference, models, pack, sharedModels, upload } from "./fixtures.ts"

let gpu: Gpu
beforeAll(async () => {
  gpu = await openDevice()
})
afterAll(() => gpu.destroy())

describe.each(models)("%s agrees with transformers", (name, options) => {
  const { sequences, floats } = expectedOf(name)
  let model: Model
  beforeAll(async () => {
    model = await loadModel(gpu, join(fixtures, name), options)
  })
  afterAll(() => model.dispose())

  test("logits of packed sequences", async () => {
    const { decoder, parameters } = model
    const logits = decoder.logits(parameters, decoder.hidden(parameters, pack(gpu, sequences)))
    expect(maxDifference(await logits.data(), floats("logits"))).toBeLessThan(1e-4)
  })

  test("gradient of every parameter", async () => {
    const { decoder, parameters } = model
    const names = Object.keys(parameters)
    const targets = gpu.tensor(Int32Array.from(sequences.flatMap((sequence) => [...sequence.slice(1), 0])))
    const weights = gpu.tensor(floats("weights") as Float32Array<ArrayBuffer>)
    const input = pack(gpu, sequences)
    const { value, grads } = valueAndGrad((...tensors) => {
      const byName: Parameters = Object.fromEntries(names.map((name, i) => [name, tensors[i]!]))
      const { logProbs } = decoder.logProbs(byName, decoder.hidden(byName, input), targets, { temperature: 1 })
      return logProbs.mul(weights).sum()
    }, Object.values(parameters))

    const [loss, ...gradients] = await gpu.readAll([value, ...grads])
    expect(Math.abs(loss![0]! - floats("loss")[0]!)).toBeLessThan(1e-4)
    for (const [i, { name, parts }] of decoder.specs.entries()) {
      const expected = Float32Array.from(
        parts.flatMap(({ name, shape, transposed }) => {
          const gradient = floats(`grad.${name}`)
          return [...(transposed ? transpose(gradient, shape[0]!, shape[1]!) : gradient)]
        }),
      )
      const scale = expected.reduce((max, x) => Math.max(max, Math.abs(x)), 0)
      const relative = maxDifference(gradients[i]!, expected) / scale
      expect({ name, isLarge: scale > 0.01, agrees: relative < 1e-3 }).toEqual({ name, isLarge: true, agrees: true })
    }
  })

  test("token by token over a cache it gives the bits of one pass", async () => {
    const { decoder, parameters, config } = model
    const { hiddenSize: width, numHiddenLayers, numKeyValueHeads, headDim } = config
    const whole = (await decoder.hidden(parameters, pack(gpu, sequences)).data()) as Float32Array

    const capacity = 24
    const layers = Array.from({ length: numHiddenLayers }, () =>
      gpu.zeros([sequences.length * capacity, 2 * numKeyValueHeads * headDim]),
    )
    const starts = sequences.map((_, i) => sequences.slice(0, i).reduce((sum, { length }) => sum + length, 0))
    for (let position = 0; position < Math.max(...sequences.map(({ length }) => length)); position++) {
      const active = sequences.flatMap(({ length }, i) => (position < length ? [i] : []))
      const input = upload(gpu, {
        tokens: Int32Array.from(active, (i) => sequences[i]![position]!),
        positions: new Int32Array(active.length).fill(position),
        spans: Int32Array.from(active.flatMap((i) => [0, 0, i * capacity, position + 1])),
      })
      const rows = gpu.tensor(Int32Array.from(active, (i) => i * capacity + position))
      const cache: KvCache = { layers, rows }
      const step = (await decoder.hidden(parameters, input, { cache }).data()) as Float32Array
      for (const [row, i] of active.entries()) {
        const at = (starts[i]! + position) * width
        expect(step.slice(row * width, (row + 1) * width)).toEqual(whole.slice(at, at + width))
      }
    }
  })

  test("scores what is sampled from its logits with the bits of training", async () => {
    const { decoder, parameters } = model
    const hidden = decoder.hidden(parameters, pack(gpu, sequences))
    const targets = gpu.tensor(Int32Array.from(sequences.flatMap((sequence) => [...sequence.slice(1), 0])))
    const [sampled, trained] = await gpu.readAll([
      logProbsOf(decoder.logits(parameters, hidden), targets, { temperature: 0.7 }),
      decoder.logProbs(parameters, hidden, targets, { temperature: 0.7 }).logProbs,
    ])
    expect(sampled).toEqual(trained)
  })
})

test("a critic starts at zero on the base model's hidden states, and its head is linear", async () => {
  const { sequences, floats } = expectedOf("llama-gqa")
  const { decoder, parameters, config, dispose } = await loadModel(gpu, join(fixtures, "llama-gqa"), { head: "value" })
  const hidden = decoder.hidden(parameters, pack(gpu, sequences))
  expect(maxDifference(await hidden.data(), floats("hidden"))).toBeLessThan(1e-4)
  const values = await decoder.values(parameters, hidden).data()
  expect([...values]).toEqual(Array.from({ length: 27 }, () => 0))

  const weight = Float32Array.from({ length: config.hiddenSize }, (_, i) => Math.cos(i))
  const trained = {
    ...parameters,
    "value.weight": gpu.tensor(weight, [1, weight.length]),
    "value.bias": gpu.tensor([3]),
  }
  const states = floats("hidden")
  const expected = Array.from({ length: 27 }, (_, row) =>
    weight.reduce((sum, w, i) => sum + w * states[row * 16 + i]!, 3),
  )
  expect(maxDifference(await decoder.values(trained, hidden).data(), expected)).toBeLessThan(1e-4)
  expect(() => decoder.head(parameters)).toThrow(/needs parameter "lm_head.weight"/)
  dispose()
})

test("a reward model starts from any base, and is written as transformers' classifier of sequences", async () => {
  const { sequences, floats } = expectedOf("llama-gqa")
  const model = await loadModel(gpu, join(fixtures, "llama-gqa"), { head: "reward" })
  const weight = Float32Array.from({ length: 16 }, (_, i) => Math.sin(i))
  gpu.write(model.parameters["reward.weight"]!, weight)
  const files = await exportModel(model)
  const config = JSON.parse(new TextDecoder().decode(files["config.json"]))
  expect(config).toMatchObject({ architectures: ["LlamaForSequenceClassification"], id2label: { "0": "reward" } })
  const { tensors } = readSafetensors(files["model.safetensors"]!, "model")
  expect(tensors.get("score.weight")!.shape).toEqual([1, 16])
  expect([tensors.has("score.bias"), tensors.has("lm_head.weight")]).toEqual([false, false])

  const again = await loadModel(gpu, files, { head: "reward" })
  const hidden = again.decoder.hidden(again.parameters, pack(gpu, sequences))
  const rewards = await again.decoder.values(again.parameters, hidden).data()
  const states = floats("hidden")
  rewards.forEach((reward, row) =>
    expect(reward).toBeCloseTo(
      weight.reduce((sum, w, i) => sum + w * states[row * 16 + i]!, 0),
      4,
    ),
  )
  // Its head is what a critic of the same base may start from, but no language model.
  const critic = await loadModel(gpu, files, { head: "value" })
  expect(await critic.parameters["value.weight"]!.data()).toEqual(weight)
  await expect(loadModel(gpu, files)).rejects.toThrow(/"lm_head.weight" is missing/)
  for (const { dispose } of [model, again, critic]) dispose()
})

const stories = join(sharedModels, "stories260K")

test.skipIf(!existsSync(stories))("stories260K tells its story (skipped without the shared models)", async () => {
  const { decoder, parameters, tokenizer, dispose } = await loadModel(gpu, stories)
  const tokens = [...tokenizer!.encode("")]
  for (let step = 0; step < 24; step++) {
    const hidden = decoder.hidden(parameters, pack(gpu, [tokens]))
    const logits = hidden.matmul(decoder.head(parameters), { transposeB: true })
    const last = ((await logits.data()) as Float32Array).subarray(-512)
    tokens.push(last.indexOf(last.reduce((max, x) => Math.max(max, x))))
  }
  const story = "Once upon a time, there was a little girl named Lily. She loved to"
  expect(tokenizer!.decode(tokens).slice(0, story.length)).toBe(story)
  dispose()
})
