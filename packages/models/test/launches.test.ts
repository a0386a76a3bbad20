import { openDevice, valueAndGrad, type Gpu, type Tensor } from "@rlpt/tensor"
import { afterAll, beforeAll, expect, test } from "vitest"
import { createDecoder, decoderParameters, parseConfig, type Parameters } from "../src/index.ts"
import { pack } from "./fixtures.ts"

let gpu: Gpu
beforeAll(async () => {
  gpu = await openDevice()
})
afterAll(() => gpu.destroy())

/** Launches of a Llama of `layers` layers on two sequences: of a pass alone, and with the gradient of every weight. */
const launchesOf = (layers: number): readonly [forward: number, training: number] => {
  const config = parseConfig({
    model_type: "llama",
    vocab_size: 64,
    hidden_size: 32,
    intermediate_size: 64,
    num_hidden_layers: layers,
    num_attention_heads: 4,
    num_key_value_heads: 2,
  })
  const decoder = createDecoder(gpu, config)
  const specs = decoderParameters(config, "lm")
  const input = pack(gpu, [
    [1, 2, 3, 4, 5],
    [6, 7, 8],
  ])
  const targets = gpu.tensor(Int32Array.of(2, 3, 4, 5, 0, 7, 8, 0))
  const weights = specs.map(({ shape }) => gpu.zeros(shape))
  const byName = (tensors: readonly Tensor[]): Parameters =>
    Object.fromEntries(specs.map(({ name }, i) => [name, tensors[i]!]))

  const forward = gpu.compile((...tensors: Tensor[]) => decoder.hidden(byName(tensors), input))
  const training = gpu.compile((...tensors: Tensor[]) => {
    const loss = (...all: Tensor[]) => {
      const hidden = decoder.hidden(byName(all), input)
      return decoder.logProbs(byName(all), hidden, targets, { temperature: 1 }).logProbs.sum()
    }
    return valueAndGrad(loss, tensors).grads
  })
  const counts = [forward.explain(...weights).launches, training.explain(...weights).launches] as const
  decoder.dispose()
  return counts
}

test("a Llama layer takes at most 8 launches, and 24 with its gradient", () => {
  const [two, three] = [launchesOf(2), launchesOf(3)]
  expect(three[0] - two[0]).toBeLessThanOrEqual(8)
  expect(three[1] - two[1]).toBeLessThanOrEqual(24)
  expect(three[0]).toBeGreaterThan(two[0])
})
