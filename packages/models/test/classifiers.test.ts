import { join } from "node:path"
import { embedding, openDevice, valueAndGrad, type Gpu, type Tensor } from "@rlpt/tensor"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { exportModel, loadModel, type Model, type Parameters } from "../src/index.ts"
import { expectedOf, fixtures, maxDifference, pack } from "./fixtures.ts"

let gpu: Gpu
beforeAll(async () => {
  gpu = await openDevice()
})
afterAll(() => gpu.destroy())

const classifiers = [
  { name: "llama", head: "value", labels: ["O", "PER", "LOC"] },
  { name: "gpt2", head: "value", labels: ["LABEL_0", "LABEL_1"] },
  { name: "qwen3", head: "reward", labels: ["LABEL_0"] },
  { name: "gemma3", head: "reward", labels: ["LABEL_0", "LABEL_1", "LABEL_2"] },
] as const

describe.each(classifiers)("a $name with a $head head of $labels.length labels", ({ name, head, labels }) => {
  const directory = join(fixtures, `classifier-${name}`)
  const { sequences, floats } = expectedOf(`classifier-${name}`)
  const ends = Int32Array.from(sequences, (_, i) =>
    sequences.slice(0, i + 1).reduce((sum, { length }) => sum + length, -1),
  )
  /** Of tokens all are classified, of sequences the last. */
  const classified = ({ decoder }: Model, parameters: Parameters): Tensor => {
    const hidden = decoder.hidden(parameters, pack(gpu, sequences))
    return decoder.classify(parameters, head === "value" ? hidden : embedding(hidden, gpu.tensor(ends)))
  }

  test("has the logits of transformers, and goes there and back unchanged", async () => {
    const model = await loadModel(gpu, directory, { head })
    const logits = classified(model, model.parameters)
    const count = head === "value" ? sequences.reduce((sum, { length }) => sum + length, 0) : sequences.length
    expect(logits.shape).toEqual([count, labels.length])
    const values = (await logits.data()) as Float32Array
    expect(maxDifference(values, floats("logits"))).toBeLessThan(1e-4)

    const files = await exportModel(model)
    const { id2label, label2id } = JSON.parse(new TextDecoder().decode(files["config.json"]))
    expect(Object.values(id2label)).toEqual(labels.length === 1 ? [expect.any(String)] : labels)
    expect(Object.keys(label2id)).toEqual(Object.values(id2label))
    const again = await loadModel(gpu, files, { head })
    expect(await classified(again, again.parameters).data()).toEqual(values)
    for (const { dispose } of [model, again]) dispose()
  })

  test("has the gradient of transformers in its head", async () => {
    const model = await loadModel(gpu, directory, { head })
    const names = Object.keys(model.parameters).filter((parameter) => parameter.startsWith(`${head}.`))
    const loss = (...tensors: Tensor[]) => {
      const logits = classified(model, {
        ...model.parameters,
        ...Object.fromEntries(names.map((key, i) => [key, tensors[i]!])),
      })
      if (labels.length === 1) return logits.mean()
      const targets = Int32Array.from({ length: logits.shape[0]! }, (_, i) => i % labels.length)
      return logits.crossEntropy(gpu.tensor(targets))
    }
    const { value, grads } = valueAndGrad(
      loss,
      names.map((key) => model.parameters[key]!),
    )
    const [total, ...gradients] = await gpu.readAll([value, ...grads])
    expect(total![0]).toBeCloseTo(floats("loss")[0]!, 4)
    for (const [i, key] of names.entries()) {
      const { name: stored } = model.decoder.specs.find((spec) => spec.name === key)!.parts[0]!
      expect(maxDifference(gradients[i]!, floats(`grad.${stored}`))).toBeLessThan(1e-4)
    }
    model.dispose()
  })
})

test.each(["gpt2", "qwen3"])("a critic of a %s starts from a reward model of it", async (name) => {
  const reward = await loadModel(gpu, join(fixtures, name), { head: "reward" })
  const { shape } = reward.parameters["reward.weight"]!
  const head = (await gpu.normal(shape, { seed: 1 }).data()) as Float32Array<ArrayBuffer>
  gpu.write(reward.parameters["reward.weight"]!, head)
  const critic = await loadModel(gpu, await exportModel(reward), { head: "value" })
  expect(await critic.parameters["value.weight"]!.data()).toEqual(head)
  expect(await critic.parameters["value.bias"]!.data()).toEqual(new Float32Array(1))
  for (const { dispose } of [reward, critic]) dispose()
})

test("any base becomes a classifier of as many labels as one asks for, which is no critic", async () => {
  const model = await loadModel(gpu, join(fixtures, "llama-gqa"), { head: "value", numLabels: 5 })
  const { decoder, parameters } = model
  const hidden = decoder.hidden(parameters, pack(gpu, [[1, 2, 3]]))
  expect(decoder.classify(parameters, hidden).shape).toEqual([3, 5])
  expect(() => decoder.values(parameters, hidden)).toThrow("values need a head of one label; this one tells 5 apart")
  const { "config.json": config } = await exportModel(model)
  const json = JSON.parse(new TextDecoder().decode(config))
  expect(json.architectures).toEqual(["LlamaForTokenClassification"])
  expect(Object.keys(json.id2label)).toHaveLength(5)
  model.dispose()
})
