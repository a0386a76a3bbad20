import { existsSync } from "node:fs"
import { join } from "node:path"
import { Effect, Stream } from "effect"
import type { Prompt, RolloutEngine, RolloutRequest, SamplingParams, TokenSequence, Trajectory } from "@rlpt/core"
import { tokenSequence } from "@rlpt/core"
import { characterTokenizer, createTokenizer, loadModel, type LoadOptions, type ModelFiles } from "@rlpt/models"
import { openDevice, readSafetensors, safetensorsToFloat32, type Gpu } from "@rlpt/tensor"

const shared = globalThis as { __rlptTestDevice?: Promise<Gpu> }

/** The one device of this test process, on the adapter that `RLPT_ADAPTER` names or the ladder finds. */
export const testDevice = (): Promise<Gpu> => (shared.__rlptTestDevice ??= openDevice())

/** A model that tests share and the repository does not carry. */
export const stories = join(import.meta.dirname, "../../../../../shared/models/stories260K")
export const hasStories = existsSync(join(stories, "model.safetensors"))

const characters = "0123456789+-=abcdefghijklmnopqrstuvwxyz ."

/** Ids: `<s>` 0, `</s>` 1, then the characters. */
export const vocabularySize = 2 + characters.length
export const endOfText = 1

/** A Llama with grouped queries and wide weights, so that what it says is far from uniform. */
const config = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  vocab_size: vocabularySize,
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  max_position_embeddings: 96,
  initializer_range: 0.25,
  tie_word_embeddings: false,
  bos_token_id: 0,
  eos_token_id: endOfText,
}

const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))

/** The files of a tiny model, without weights. `changes` go into its config.json. */
export const tinyFiles = (changes: object = {}): ModelFiles => {
  const { config: tokenizerConfig, tokenizer } = characterTokenizer(characters, { bos: "<s>", eos: "</s>" })
  return {
    "config.json": json({ ...config, ...changes }),
    "tokenizer.json": json(tokenizer),
    "tokenizer_config.json": json(tokenizerConfig),
  }
}

export const tinyTokenizer = createTokenizer(characterTokenizer(characters, { bos: "<s>", eos: "</s>" }))

/** A tiny model with random weights. */
export const tinyModel = async (options: LoadOptions & { readonly changes?: object } = {}) => {
  const { changes = {}, ...rest } = options
  return loadModel(await testDevice(), tinyFiles(changes), { fromScratch: { seed: 7 }, ...rest })
}

export const prompt = (row: number, text: string): Prompt => ({
  row,
  text,
  tokens: tinyTokenizer.encode(text),
  columns: {},
})

/** Nine prompts of 1 to 40 tokens, two of them equal, in an order that means nothing. */
export const mixedPrompts: ReadonlyArray<Prompt> = [
  prompt(12, "17+25="),
  prompt(3, ""),
  prompt(40, "the quick brown fox jumps over the lazy"),
  prompt(5, "a"),
  prompt(6, "17+25="),
  prompt(0, "once upon a time."),
  prompt(11, "9-"),
  prompt(2, "abcdefghijklmnop"),
  prompt(1, "17+2"),
]

export const sampling = (changes: Partial<SamplingParams> = {}): SamplingParams => ({
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  maxCompletionLength: 24,
  stopTokens: [],
  ...changes,
})

/** All trajectories of a request, by row and sample. */
export const sampled = async (
  engine: RolloutEngine["Service"],
  request: RolloutRequest,
): Promise<ReadonlyArray<Trajectory>> => {
  const trajectories = await Effect.runPromise(Stream.runCollect(engine.generate(request)))
  return [...trajectories].toSorted((a, b) => a.prompt.row - b.prompt.row || a.sample - b.sample)
}

/** What was drawn, with the bits of its log-probabilities. */
export const drawn = (trajectories: ReadonlyArray<Trajectory>) =>
  trajectories.map(({ completionTokens, finishReason, prompt: { row }, sample, samplerLogProbs }) => ({
    row,
    sample,
    tokens: [...completionTokens],
    bits: [...bitsOf(samplerLogProbs)],
    finishReason,
  }))

export const bitsOf = (values: Float32Array): Uint32Array =>
  new Uint32Array(values.buffer, values.byteOffset, values.length)

export const sequencesOf = (trajectories: ReadonlyArray<Trajectory>): ReadonlyArray<TokenSequence> =>
  trajectories.map(tokenSequence)

/** Largest difference over arrays of arrays. */
export const maxDifference = (a: ReadonlyArray<Float32Array>, b: ReadonlyArray<Float32Array>): number => {
  let max = a.length === b.length ? 0 : Number.NaN
  a.forEach((values, i) => {
    if (values.length !== b[i]!.length) max = Number.NaN
    values.forEach((value, t) => (max = Math.max(max, Math.abs(value - b[i]![t]!))))
  })
  return max
}

/** The tensors of a safetensors file by name. */
export const tensorsOf = (bytes: Uint8Array): ReadonlyMap<string, Float32Array> =>
  new Map([...readSafetensors(bytes, "test").tensors].map(([name, tensor]) => [name, safetensorsToFloat32(tensor)]))
