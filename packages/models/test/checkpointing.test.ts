import { join } from "node:path"
import { openDevice, valueAndGrad, type Gpu } from "@rlpt/tensor"
import { afterAll, beforeAll, expect, test } from "vitest"
import { loadModel, type Parameters } from "../src/index.ts"
import { expectedOf, fixtures, models, pack } from "./fixtures.ts"

let gpu: Gpu
beforeAll(async () => {
  gpu = await openDevice()
})
afterAll(() => gpu.destroy())

test.each(models)("gradient checkpointing leaves every bit of the gradient of %s", async (name, options) => {
  const { decoder, parameters, dispose } = await loadModel(gpu, join(fixtures, name), {
    ...options,
    lora: { r: 2, alpha: 4 },
  })
  const { sequences, floats } = expectedOf(name)
  const names = Object.keys(parameters)
  const targets = gpu.tensor(Int32Array.from(sequences.flatMap((sequence) => [...sequence.slice(1), 0])))
  const weights = gpu.tensor(floats("weights") as Float32Array<ArrayBuffer>)
  const input = pack(gpu, sequences)
  const [plain, checkpointed] = await Promise.all(
    [false, true].map((gradientCheckpointing) => {
      const { value, grads } = valueAndGrad((...tensors) => {
        const byName: Parameters = Object.fromEntries(names.map((name, i) => [name, tensors[i]!]))
        const hidden = decoder.hidden(byName, input, { gradientCheckpointing })
        return decoder.logProbs(byName, hidden, targets, { temperature: 1 }).logProbs.mul(weights).sum()
      }, Object.values(parameters))
      return gpu.readAll([value, ...grads])
    }),
  )
  expect(checkpointed).toEqual(plain)
  dispose()
})
