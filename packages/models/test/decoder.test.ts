import { existsSync } from "node:fs"
import { join } from "node:path"
import { openDevice, tokenLogProbs, valueAndGrad, type Gpu } from "@rlpt/tensor"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { loadModel, type KvCache, type Parameters } from "../src/index.ts"
import { expectedOf, fixtures, maxDifference, pack, sharedModels, upload } from "./fixtures.ts"

let gpu: Gpu
beforeAll(async () => {
  gpu = await openDevice()
})
afterAll(() => gpu.destroy())

describe.each(["llama-gqa", "llama-tied-bf16", "llama-sharded-f16"])("%s agrees with transformers", (name) => {
  const { sequences, floats } = expectedOf(name)

  test("hidden states and logits of packed sequences", async () => {
    const model = await loadModel(gpu, join(fixtures, name))
    const hidden = model.decoder.hidden(model.parameters, pack(gpu, sequences))
    const logits = hidden.matmul(model.decoder.head(model.parameters), { transposeB: true })
    expect(maxDifference(await hidden.data(), floats("hidden"))).toBeLessThan(1e-4)
    expect(maxDifference(await logits.data(), floats("logits"))).toBeLessThan(1e-4)
    model.dispose()
  })

  test("gradient of every parameter", async () => {
    const { decoder, parameters, dispose } = await loadModel(gpu, join(fixtures, name))
    const names = Object.keys(parameters)
    const targets = gpu.tensor(Int32Array.from(sequences.flatMap((sequence) => [...sequence.slice(1), 0])))
    const weights = gpu.tensor(floats("weights") as Float32Array<ArrayBuffer>)
    const input = pack(gpu, sequences)
    const { value, grads } = valueAndGrad((...tensors) => {
      const byName: Parameters = Object.fromEntries(names.map((name, i) => [name, tensors[i]!]))
      const hidden = decoder.hidden(byName, input)
      return tokenLogProbs(hidden, decoder.head(byName), targets, { temperature: 1 }).logProbs.mul(weights).sum()
    }, Object.values(parameters))

    expect(Math.abs((await value.item()) - floats("loss")[0]!)).toBeLessThan(1e-4)
    for (const [i, { name, parts }] of decoder.specs.entries()) {
      const gradient = (await grads[i]!.data()) as Float32Array
      const expected = Float32Array.from(parts.flatMap((part) => [...floats(`grad.${part.name}`)]))
      const scale = expected.reduce((max, x) => Math.max(max, Math.abs(x)), 0)
      const relative = maxDifference(gradient, expected) / scale
      expect({ name, isLarge: scale > 0.01, agrees: relative < 1e-3 }).toEqual({ name, isLarge: true, agrees: true })
    }
    dispose()
  })

  test("token by token over a cache it gives the bits of one pass", async () => {
    const { decoder, parameters, config, dispose } = await loadModel(gpu, join(fixtures, name))
    const { hiddenSize: width, numHiddenLayers, numKeyValueHeads, headDim } = config
    const whole = (await decoder.hidden(parameters, pack(gpu, sequences)).data()) as Float32Array

    const capacity = 16
    const layers = Array.from({ length: numHiddenLayers }, () =>
      gpu.zeros([sequences.length * capacity, 2 * numKeyValueHeads * headDim]),
    )
    const starts = sequences.map((_, i) => sequences.slice(0, i).reduce((sum, { length }) => sum + length, 0))
    for (let position = 0; position < 12; position++) {
      const active = sequences.flatMap(({ length }, i) => (position < length ? [i] : []))
      const input = upload(gpu, {
        tokens: Int32Array.from(active, (i) => sequences[i]![position]!),
        positions: new Int32Array(active.length).fill(position),
        spans: Int32Array.from(active.flatMap((i) => [0, 0, i * capacity, position + 1])),
      })
      const rows = gpu.tensor(Int32Array.from(active, (i) => i * capacity + position))
      const cache: KvCache = { layers, rows }
      const step = (await decoder.hidden(parameters, input, cache).data()) as Float32Array
      for (const [row, i] of active.entries()) {
        const at = (starts[i]! + position) * width
        expect(step.slice(row * width, (row + 1) * width)).toEqual(whole.slice(at, at + width))
      }
    }
    dispose()
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
