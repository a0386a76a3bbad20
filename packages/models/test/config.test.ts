import { describe, expect, test } from "vitest"
import { countParameters, decoderParameters, ModelError, parseConfig } from "../src/index.ts"

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
      headDim: 8,
      maxPositionEmbeddings: 2048,
      rmsNormEps: 1e-6,
      ropeTheta: 10_000,
      initializerRange: 0.02,
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
    expect(parseConfig(four)).toMatchObject({ ropeTheta: 5e5, headDim: 8, bosTokenId: null, eosTokenIds: [3, 4] })
    const five = { ...llama, rope_parameters: { rope_theta: 7e5, rope_type: "default" }, head_dim: 32 }
    expect(parseConfig(five)).toMatchObject({ ropeTheta: 7e5, headDim: 32 })
    const { architectures: _, ...byType } = llama
    expect(parseConfig(byType).family).toBe("llama")
  })

  const refused: ReadonlyArray<readonly [string, unknown, RegExp]> = [
    ["no object", [], /not a JSON object/],
    ["no architecture", {}, /neither "architectures" nor "model_type"/],
    [
      "unknown architecture",
      { ...llama, architectures: ["Qwen2ForCausalLM"] },
      /"Qwen2ForCausalLM" is .*LlamaForCausalLM/,
    ],
    ["missing size", { ...llama, hidden_size: undefined }, /"hidden_size" is missing/],
    ["wrong type", { ...llama, hidden_size: "64" }, /"hidden_size" must be a positive integer, not "64"/],
    ["fraction", { ...llama, num_hidden_layers: 1.5 }, /"num_hidden_layers" must be a positive integer/],
    ["zero", { ...llama, vocab_size: 0 }, /"vocab_size" must be a positive integer/],
    ["negative epsilon", { ...llama, rms_norm_eps: -1 }, /"rms_norm_eps" must be a positive number/],
    ["indivisible heads", { ...llama, num_key_value_heads: 3 }, /"num_attention_heads" \(8\) is not a multiple of/],
    ["hidden not divisible", { ...llama, hidden_size: 66 }, /"head_dim" must be a positive integer, not 8.25/],
    ["narrow heads", { ...llama, head_dim: 6 }, /"head_dim" \(6\) is not a multiple of 4/],
    ["tie", { ...llama, tie_word_embeddings: "yes" }, /"tie_word_embeddings" must be true or false/],
    ["eos", { ...llama, eos_token_id: ["</s>"] }, /"eos_token_id" must be token ids/],
    ["activation", { ...llama, hidden_act: "gelu" }, /"hidden_act": "gelu" is not supported, only "silu"/],
    ["biases", { ...llama, attention_bias: true }, /"attention_bias": true is not supported/],
    ["scaled RoPE", { ...llama, rope_scaling: { rope_type: "llama3", factor: 8 } }, /"rope_scaling" of type "llama3"/],
    ["scaled RoPE, v5", { ...llama, rope_parameters: { rope_type: "yarn" } }, /"rope_parameters" of type "yarn"/],
  ]
  test.each(refused)("refuses by name: %s", (_, json, message) => {
    const parse = () => parseConfig(json, "dir/config.json")
    expect(parse).toThrow(ModelError)
    expect(parse).toThrow(message)
    expect(parse).toThrow(/^dir\/config\.json: /)
  })
})

describe("decoderParameters", () => {
  test("counts what the model has: stories260K is tied, a critic has a value head for its language-model head", () => {
    const tied = parseConfig({ ...llama, tie_word_embeddings: true })
    expect(countParameters(decoderParameters(tied, "lm"))).toBe(260_032)
    expect(countParameters(decoderParameters(parseConfig(llama), "lm"))).toBe(260_032 + 512 * 64)
    expect(countParameters(decoderParameters(parseConfig(llama), "value"))).toBe(260_032 + 65)
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
