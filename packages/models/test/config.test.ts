import { readFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, test } from "vitest"
import { countParameters, decoderParameters, ModelError, parseConfig } from "../src/index.ts"
import { fixtures } from "./fixtures.ts"

const llama = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  vocab_size: 512,
  hidden_size: 64,
  intermediate_size: 172,
  num_hidden_layers: 5,
  num_attention_heads: 8,
  num_key_value_heads: 4,
}

/** 1 / base^(2i / 8) in f32. */
const frequencies = (base: number) =>
  Float32Array.from([0, 1, 2, 3], (i) => 1 / Math.fround(base ** Math.fround((2 * i) / 8)))

describe("parseConfig", () => {
  test("fills in what transformers assumes", () => {
    expect(parseConfig(llama)).toEqual({
      family: "llama",
      vocabSize: 512,
      hiddenSize: 64,
      intermediateSize: 172,
      numHiddenLayers: 5,
      numAttentionHeads: 8,
      numKeyValueHeads: 4,
      numLabels: 1,
      headDim: 8,
      maxPositionEmbeddings: 2048,
      contextLength: 2048,
      initializerRange: 0.02,
      embeddingScale: 1,
      learnedPositions: false,
      norm: { kind: "rms", eps: 1e-6, offset: 0 },
      postNorms: false,
      attention: { bias: false, outputBias: false, qkNorm: undefined, softCap: undefined },
      feedForward: { activation: "silu", gated: true, bias: false },
      ropes: { default: { frequencies: frequencies(10_000), scale: 1 } },
      layers: Array.from({ length: 5 }, () => ({
        rope: "default",
        window: undefined,
        attentionScale: 1 / Math.sqrt(8),
      })),
      logitSoftCap: undefined,
      tieWordEmbeddings: false,
      bosTokenId: 1,
      eosTokenIds: [2],
    })
    const { num_key_value_heads: _, ...multiHead } = llama
    expect(parseConfig(multiHead).numKeyValueHeads).toBe(8)
  })

  test("reads what transformers 4 and 5 write", () => {
    const four = {
      ...llama,
      rope_theta: 5e5,
      rope_scaling: null,
      head_dim: null,
      bos_token_id: null,
      eos_token_id: [3, 4],
    }
    expect(parseConfig(four)).toMatchObject({ headDim: 8, bosTokenId: null, eosTokenIds: [3, 4] })
    expect(parseConfig(four).ropes["default"]!.frequencies).toEqual(frequencies(5e5))
    const five = { ...llama, rope_parameters: { rope_theta: 7e5, rope_type: "default" }, head_dim: 32 }
    expect(parseConfig(five).headDim).toBe(32)
    expect(parseConfig({ ...five, head_dim: 8 }).ropes["default"]!.frequencies).toEqual(frequencies(7e5))
    const { architectures: _, ...byType } = llama
    expect(parseConfig(byType).family).toBe("llama")
  })

  test("is prepared for the length that one asks for", () => {
    expect(parseConfig(llama, "config.json", { contextLength: 100 })).toMatchObject({
      maxPositionEmbeddings: 2048,
      contextLength: 100,
    })
    const learnt = { model_type: "gpt2", n_embd: 16, n_head: 2, n_layer: 1, vocab_size: 8, n_positions: 32 }
    expect(() => parseConfig(learnt, "config.json", { contextLength: 33 })).toThrow(
      'config.json: "n_positions" is 32: its positions are learnt, so that a context of 33 is not possible',
    )
  })

  const refused: ReadonlyArray<readonly [string, unknown, RegExp]> = [
    ["no object", [], /not a JSON object/],
    ["no architecture", {}, /neither "architectures" nor "model_type"/],
    [
      "unknown architecture",
      { ...llama, architectures: ["MixtralForCausalLM"] },
      /"MixtralForCausalLM" is not supported; the nearest that is: MistralForCausalLM \(all: LlamaForCausalLM, /,
    ],
    ["missing size", { ...llama, hidden_size: undefined }, /"hidden_size" is missing/],
    ["wrong type", { ...llama, hidden_size: "64" }, /"hidden_size" must be a positive integer, not "64"/],
    ["fraction", { ...llama, num_hidden_layers: 1.5 }, /"num_hidden_layers" must be a positive integer/],
    ["corrupt", { ...llama, num_hidden_layers: 1e9 }, /"num_hidden_layers" is 1000000000; no model has so many/],
    ["zero", { ...llama, vocab_size: 0 }, /"vocab_size" must be a positive integer/],
    ["negative epsilon", { ...llama, rms_norm_eps: -1 }, /"rms_norm_eps" must be a positive number/],
    ["indivisible heads", { ...llama, num_key_value_heads: 3 }, /"num_attention_heads" \(8\) is not a multiple of/],
    ["hidden not divisible", { ...llama, hidden_size: 66 }, /"head_dim" must be a positive integer, not 8.25/],
    ["narrow heads", { ...llama, head_dim: 6 }, /"head_dim" \(6\) is not a multiple of 4/],
    ["tie", { ...llama, tie_word_embeddings: "yes" }, /"tie_word_embeddings" must be true or false/],
    ["eos", { ...llama, eos_token_id: ["</s>"] }, /"eos_token_id" must be token ids/],
    ["activation", { ...llama, hidden_act: "relu" }, /"hidden_act": "relu" is not supported, only "silu", /],
    ["biases", { ...llama, attention_bias: 1 }, /"attention_bias" must be true or false, not 1/],
    ["dropout", { ...llama, attention_dropout: 0.1 }, /"attention_dropout": 0.1 is not supported, only 0/],
    ["RoPE", { ...llama, rope_scaling: { rope_type: "mrope" } }, /"rope_scaling\.rope_type": "mrope" is not supported/],
    ["RoPE, v5", { ...llama, rope_parameters: { rope_type: "llama3" } }, /"rope_parameters\.factor" is missing/],
    ["RoPE, no object", { ...llama, rope_scaling: "linear" }, /"rope_scaling" must be an object, not "linear"/],
    [
      "wrong factors",
      { ...llama, rope_scaling: { type: "longrope", short_factor: [1], long_factor: [1] } },
      /"rope_scaling\.short_factor": \[1\] is not supported, only a list of 4 numbers/,
    ],
    [
      "odd rotary embedding",
      { ...llama, architectures: ["Phi3ForCausalLM"], partial_rotary_factor: 0.4 },
      /rotary embedding of 3 dimensions of each head is not supported/,
    ],
    [
      "layers of an unknown type",
      { ...llama, architectures: ["Qwen3ForCausalLM"], layer_types: ["full_attention", "linear_attention"] },
      /"layer_types" must be a list with "full_attention" or "sliding_attention" for each of 5 layers/,
    ],
    [
      "attention both ways",
      { ...llama, architectures: ["Gemma2ForCausalLM"], use_bidirectional_attention: true },
      /"use_bidirectional_attention": true is not supported, only false/,
    ],
  ]
  test.each(refused)("refuses by name: %s", (_, json, message) => {
    const parse = () => parseConfig(json, "dir/config.json")
    expect(parse).toThrow(ModelError)
    expect(parse).toThrow(message)
    expect(parse).toThrow(/^dir\/config\.json: /)
  })
})

interface Hub {
  readonly config: Readonly<Record<string, unknown>>
  readonly length: number
  readonly windows: ReadonlyArray<number | null>
  readonly ropes: ReadonlyArray<string | null>
  readonly angles: Readonly<Record<string, { readonly frequencies: ReadonlyArray<number>; readonly scale: number }>>
}
const hub = JSON.parse(readFileSync(join(fixtures, "configs.json"), "utf8")) as Readonly<Record<string, Hub>>

describe("a configuration from the hub means what transformers makes of it", () => {
  test.each(Object.keys(hub))("%s tokens", (name) => {
    const { config, length, windows, ropes, angles } = hub[name]!
    const sizes = { vocab_size: 1000, intermediate_size: 1000 }
    const parsed = parseConfig({ ...sizes, ...config }, name, { contextLength: length })
    expect(parsed.layers.map(({ window }) => window ?? null)).toEqual(windows)
    for (const [layer, { rope }] of parsed.layers.entries()) {
      const expected = ropes[layer]
      if (rope === undefined || expected == null) {
        expect(rope ?? null).toBe(expected)
        continue
      }
      const { frequencies, scale } = parsed.ropes[rope]!
      expect(Math.abs(scale - angles[expected]!.scale)).toBeLessThan(1e-9)
      expect(frequencies.length).toBe(angles[expected]!.frequencies.length)
      for (const [i, frequency] of frequencies.entries()) {
        // PyTorch's pow is right to an ulp or two.
        expect(Math.abs(frequency / angles[expected]!.frequencies[i]! - 1)).toBeLessThan(5e-7)
      }
    }
  })

  test("LongRoPE keeps to its original length unless one asks for more", () => {
    const { config } = hub["Phi-4-mini at 4096"]!
    const parsed = parseConfig({ vocab_size: 1000, intermediate_size: 1000, ...config })
    expect(parsed).toMatchObject({ maxPositionEmbeddings: 131_072, contextLength: 4096 })
  })
})

describe("decoderParameters", () => {
  test("counts what the model has: stories260K is tied, a critic has a value head for its language-model head", () => {
    const tied = parseConfig({ ...llama, tie_word_embeddings: true })
    expect(countParameters(decoderParameters(tied, "lm"))).toBe(260_032)
    expect(countParameters(decoderParameters(parseConfig(llama), "lm"))).toBe(260_032 + 512 * 64)
    expect(countParameters(decoderParameters(parseConfig(llama), "value"))).toBe(260_032 + 65)
  })

  test("counts GPT-2 by its defaults", () => {
    const config = parseConfig({ model_type: "gpt2" })
    expect(config.intermediateSize).toBe(3072)
    expect(countParameters(decoderParameters(config, "lm"))).toBe(124_439_808)
  })

  test("fuses what reads the same input", () => {
    const specs = decoderParameters(parseConfig({ ...llama, head_dim: 16 }), "lm")
    const qkv = specs.find(({ name }) => name === "layers.3.self_attn.qkv_proj.weight")!
    expect(qkv.shape).toEqual([(8 + 2 * 4) * 16, 64])
    expect(qkv.parts).toEqual([
      { name: "model.layers.3.self_attn.q_proj.weight", shape: [128, 64] },
      { name: "model.layers.3.self_attn.k_proj.weight", shape: [64, 64] },
      { name: "model.layers.3.self_attn.v_proj.weight", shape: [64, 64] },
    ])
  })
})
