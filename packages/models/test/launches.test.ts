import { openDevice, valueAndGrad, type Gpu, type Tensor } from "@rlpt/tensor"
import { afterAll, beforeAll, expect, test } from "vitest"
import { createDecoder, decoderParameters, parseConfig, type Parameters } from "../src/index.ts"
import { pack } from "./fixtures.ts"

let gpu: Gpu
beforeAll(async () => {
  gpu = await openDevice()
})
afterAll(() => gpu.destroy())

interface Size {
  readonly width: number
  readonly inner: number
  readonly heads: number
  readonly kvHeads: number
  /** Of the sequences. */
  readonly lengths: readonly number[]
}

/** Launches of a Llama of `layers` layers: of a pass alone, and with the gradient of every weight. */
const launchesOf = (
  layers: number,
  { width, inner, heads, kvHeads, lengths }: Size,
): readonly [forward: number, training: number] => {
  const config = parseConfig({
    model_type: "llama",
    vocab_size: 64,
    hidden_size: width,
    intermediate_size: inner,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
  })
  const decoder = createDecoder(gpu, config)
  const specs = decoderParameters(config, "lm")
  const sequences = lengths.map((length) => Array.from({ length }, (_, i) => i % 64))
  const input = pack(gpu, sequences)
  const targets = gpu.tensor(Int32Array.from(sequences.flat()))
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

test.each<[string, Size]>([
  ["of a tiny model", { width: 32, inner: 64, heads: 4, kvHeads: 2, lengths: [5, 3] }],
  ["of width 256, 4 × 64 tokens", { width: 256, inner: 1024, heads: 8, kvHeads: 8, lengths: [64, 64, 64, 64] }],
])("a Llama layer %s takes at most 8 launches, and 24 with its gradient", (_, size) => {
  const [two, three] = [launchesOf(2, size), launchesOf(3, size)]
  expect(three[0] - two[0]).toBeLessThanOrEqual(8)
  expect(three[1] - two[1]).toBeLessThanOrEqual(24)
  expect(three[0]).toBeGreaterThan(two[0])
})
