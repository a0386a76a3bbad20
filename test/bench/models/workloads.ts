/** A Llama of 29.4 million parameters, as `config.json` says it. */
export const llama = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  vocab_size: 4096,
  hidden_size: 512,
  intermediate_size: 1536,
  num_hidden_layers: 8,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 64,
  max_position_embeddings: 1024,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  hidden_act: "silu",
  // Wide enough that the likeliest token is far ahead of the second, and all contenders choose the same.
  initializer_range: 0.05,
  tie_word_embeddings: false,
  bos_token_id: 0,
  eos_token_id: 1,
} as const

/** As many layers, with next to nothing to compute in them: what remains of a pass is the cost of asking for it. */
export const narrowLlama = { ...llama, hidden_size: 64, intermediate_size: 192, head_dim: 8 } as const

/** Parameters of the projections and the head: what a pass multiplies with each token. */
const multiplied = (({ hidden_size: D, intermediate_size: F, num_hidden_layers: L, head_dim: d, ...c }) =>
  L * D * ((2 * c.num_attention_heads + 2 * c.num_key_value_heads) * d + 3 * F) + c.vocab_size * D)(llama)

/** Bytes of weights that a pass over the model reads, in f32. */
export const weightBytes = 4 * multiplied

/** Writes and reads key-value rows: one prompt in, one token out. */
interface Prefill {
  readonly kind: "prefill"
  readonly prompts: readonly (readonly number[])[]
  readonly newTokens: 1
}

/** From one token per sequence, `newTokens` more of each, the likeliest each time. */
interface Decode {
  readonly kind: "decode"
  readonly prompts: readonly (readonly number[])[]
  readonly newTokens: number
}

/** Forward, backward, clipping and AdamW on `sequences`, of which the last token is predicted only. */
interface Train {
  readonly kind: "train"
  readonly sequences: readonly (readonly number[])[]
}

export type Work = Prefill | Decode | Train

export interface ModelWorkload {
  readonly name: string
  readonly work: Work
  /** Tokens that a run reads (prefill, training) or writes (decoding). */
  readonly tokens: number
  /** Passes over the weights. */
  readonly passes: number
  /** Multiplications and additions of a run: the projections', without attention. */
  readonly flops: number
}

/** Token ids that are neither of the special ones, the same in every process. */
const ids = (count: number, seed: number): readonly number[] => {
  let x = (seed * 2654435761) >>> 0 || 1
  return Array.from({ length: count }, () => {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    return 2 + ((x >>> 0) % (llama.vocab_size - 2))
  })
}

const prefill = (tokens: number): ModelWorkload => ({
  name: `prefill, ${tokens} tokens`,
  work: { kind: "prefill", prompts: [ids(tokens, 1)], newTokens: 1 },
  tokens,
  passes: 1,
  flops: 2 * (multiplied - llama.vocab_size * llama.hidden_size) * tokens,
})

export const decode = (batch: number, newTokens: number): ModelWorkload => ({
  name: `decoding, batch ${batch}`,
  work: { kind: "decode", prompts: ids(batch, 2).map((id) => [id]), newTokens },
  tokens: batch * newTokens,
  passes: newTokens,
  flops: 2 * multiplied * batch * newTokens,
})

const train = (batch: number, tokens: number): ModelWorkload => ({
  name: `training step, ${batch} × ${tokens} tokens`,
  work: { kind: "train", sequences: Array.from({ length: batch }, (_, i) => ids(tokens + 1, 3 + i)) },
  tokens: batch * tokens,
  passes: 1,
  flops: 6 * multiplied * batch * tokens,
})

/** Training is last: it changes the weights. */
export const workloads: readonly ModelWorkload[] = [
  prefill(512),
  ...[1, 8, 32].map((batch) => decode(batch, 32)),
  train(8, 128),
]
