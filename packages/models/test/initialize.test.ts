import { expect, test } from "vitest"
import { decoderParameters, parseConfig } from "../src/index.ts"
import { initialValues } from "../src/initialize.ts"

const config = parseConfig({
  model_type: "llama",
  vocab_size: 300,
  hidden_size: 128,
  intermediate_size: 256,
  num_hidden_layers: 8,
  num_attention_heads: 4,
})
const specs = decoderParameters(config, "value")
const spec = (name: string) => specs.find((candidate) => candidate.name === name)!

/** Mean, standard deviation, and the share of draws within one standard deviation. */
const moments = (values: Float32Array) => {
  const mean = values.reduce((a, b) => a + b, 0) / values.length
  const std = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length)
  return { mean, std, within: values.filter((x) => Math.abs(x) < std).length / values.length }
}

test.each([
  ["embed_tokens.weight", 0.02],
  ["layers.0.self_attn.qkv_proj.weight", 0.02],
  ["layers.0.self_attn.o_proj.weight", 0.02 / 4],
  ["layers.7.mlp.down_proj.weight", 0.02 / 4],
])("%s is normal with standard deviation %d", (name, std) => {
  const found = moments(initialValues(spec(name), 1))
  expect(Math.abs(found.mean)).toBeLessThan(0.03 * std)
  expect(Math.abs(found.std / std - 1)).toBeLessThan(0.02)
  expect(Math.abs(found.within - 0.6827)).toBeLessThan(0.01)
})

test("norms start at one and the value head at zero", () => {
  expect(new Set(initialValues(spec("norm.weight"), 1))).toEqual(new Set([1]))
  expect(new Set(initialValues(spec("value.weight"), 1))).toEqual(new Set([0]))
  expect(new Set(initialValues(spec("value.bias"), 1))).toEqual(new Set([0]))
})

test("values depend on the seed and the name, and on nothing else", () => {
  const first = (name: string, seed: number) => [...initialValues(spec(name), seed).subarray(0, 4)]
  const a = first("embed_tokens.weight", 7)
  expect(first("embed_tokens.weight", 7)).toEqual(a)
  const others = [
    first("embed_tokens.weight", 8),
    first("embed_tokens.weight", 7 + 2 ** 32),
    first("layers.0.self_attn.qkv_proj.weight", 7),
  ]
  for (const other of others) expect(other).not.toEqual(a)
})

test("draws are standard normal to the last bit of an independent evaluation", () => {
  const values = initialValues({ name: "x", shape: [1000], parts: [], initializer: { kind: "normal", std: 1 } }, 0)
  // Of a polar pair (x, y)·√(−2 ln s / s), the squares add up to −2 ln s: s must be uniform.
  const uniform = Array.from({ length: 500 }, (_, i) => Math.exp(-(values[2 * i]! ** 2 + values[2 * i + 1]! ** 2) / 2))
  const worst = uniform.sort((a, b) => a - b).reduce((max, u, i) => Math.max(max, Math.abs(u - (i + 0.5) / 500)), 0)
  // Kolmogorov–Smirnov at 1 %: 1.63 / √500.
  expect(worst).toBeLessThan(0.073)
})
