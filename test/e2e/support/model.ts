import { characterTokenizer, decoderParameters, parseConfig, type ModelFiles } from "@rlpt/models"
import { safetensorsFromFloat32, writeSafetensors, type SafetensorsTensor } from "@rlpt/tensor"

/** What the tiny model can say, after `<s>` (0) and `</s>` (1). */
export const characters = "0123456789+-="

/** A Llama that trains in milliseconds, with wide weights so that what it says is far from uniform. */
export const tinyConfig = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  vocab_size: 2 + characters.length,
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 16,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-6,
  rope_theta: 10_000,
  hidden_act: "silu",
  initializer_range: 0.3,
  tie_word_embeddings: true,
  bos_token_id: 0,
  eos_token_id: 1,
  torch_dtype: "float32",
}

/** A deterministic stand-in for random weights in (−1, 1): Weyl's sequence of the golden ratio, scrambled by a sine. */
const noise = (i: number) => Math.sin((((i + 1) * 0.6180339887498949) % 1) * 43_758.5453)

const json = (value: unknown) => new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`)

/** The files of a tiny model, as transformers would save it. `dtype` is written into the header whatever it says. */
export const tinyModelFiles = (changes: object = {}): Record<string, Uint8Array> & ModelFiles => {
  const config = { ...tinyConfig, ...changes }
  const tensors = new Map<string, SafetensorsTensor>()
  let drawn = 0
  for (const { initializer, parts } of decoderParameters(parseConfig(config), "lm")) {
    for (const { name, shape } of parts) {
      const size = shape.reduce((product, n) => product * n, 1)
      const scale = initializer.kind === "normal" ? 2 * initializer.std : 0
      const base = initializer.kind === "constant" ? initializer.value : 0
      const values = Float32Array.from({ length: size }, () => base + scale * noise(drawn++))
      tensors.set(name, safetensorsFromFloat32(values, shape, "F32"))
    }
  }
  const tokenizer = characterTokenizer(characters, { bos: "<s>", eos: "</s>" })
  return {
    "config.json": json(config),
    "generation_config.json": json({ bos_token_id: 0, eos_token_id: 1 }),
    "tokenizer.json": json(tokenizer.tokenizer),
    "tokenizer_config.json": json(tokenizer.config),
    "model.safetensors": writeSafetensors(tensors, { format: "pt" }),
  }
}
