import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { expect, it } from "@effect/vitest"
import type { RewardInput } from "@rlpt/core"
import { characterTokenizer, loadModel, packSequences, saveModel } from "@rlpt/models"
import { openDevice } from "@rlpt/tensor"
import { Effect } from "effect"
import { onTestFinished } from "vitest"
import reward from "../src/index.ts"

const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))
const config = {
  model_type: "llama",
  vocab_size: 20,
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  max_position_embeddings: 32,
  bos_token_id: 0,
  eos_token_id: 1,
}

const tiny = (changes: object = {}) => {
  const { config: tokenizerConfig, tokenizer } = characterTokenizer("0123456789+=", { bos: "<s>", eos: "</s>" })
  return {
    "config.json": json({ ...config, ...changes }),
    "tokenizer.json": json(tokenizer),
    "tokenizer_config.json": json(tokenizerConfig),
  }
}

/** Saves a tiny model with a head of noise. */
const save = async (head: "reward" | "lm", numLabels = 1, changes: object = {}) => {
  const directory = mkdtempSync(join(tmpdir(), "rlpt-judge-"))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  const gpu = await openDevice()
  const model = await loadModel(gpu, tiny(changes), { head, numLabels, fromScratch: { seed: 3 } })
  const name = head === "reward" ? "reward.weight" : "lm_head.weight"
  const { shape } = model.parameters[name]!
  const noise = (await gpu.normal(shape, { seed: 1 }).data()) as Float32Array<ArrayBuffer>
  gpu.write(model.parameters[name]!, noise)
  await saveModel(model, directory)
  gpu.destroy()
  return directory
}

/** What the model in `directory` says of whole texts, one by one. */
const rewardsOf = async (directory: string, texts: ReadonlyArray<ReadonlyArray<number>>) => {
  const gpu = await openDevice()
  const { decoder, parameters } = await loadModel(gpu, directory, { head: "reward" })
  const rewards: number[] = []
  for (const text of texts) {
    const { positions, spans, tokens } = packSequences([text])
    const input = {
      tokens: gpu.tensor(tokens),
      positions: gpu.tensor(positions),
      spans: gpu.tensor(spans, [tokens.length, 4]),
    }
    rewards.push((await decoder.values(parameters, decoder.hidden(parameters, input)).data()).at(-1)!)
  }
  gpu.destroy()
  return rewards
}

const input = (prompt: string, completion: string, finishReason: RewardInput["finishReason"]): RewardInput => ({
  prompt,
  completion,
  completionTokens: new Int32Array(1),
  columns: {},
  finishReason,
  maxCompletionLength: 8,
})

const open = (directory: string, options: unknown) =>
  Effect.flatMap(reward.configure(options), (make) => make({ directory, runDirectory: "/" }))

it.live("scores texts as the model does, together as one by one, with the end behind those that ended", () =>
  Effect.gen(function* () {
    const directory = yield* Effect.promise(() => save("reward"))
    const { score } = yield* open("/", { model: directory })
    const inputs = [input("1+1=", "2", "stop"), input("1+1=", "3", "stop"), input("12+3=", "15", "length")]
    const together = yield* Effect.forEach(inputs, score, { concurrency: "unbounded" })
    const alone = yield* Effect.forEach(inputs, score)
    expect(alone).toEqual(together)
    const { tokenizer } = yield* Effect.promise(async () => loadTokenizer())
    const texts = [
      [...tokenizer.encode("1+1=2"), 1],
      [...tokenizer.encode("1+1=3"), 1],
      [...tokenizer.encode("12+3=15")],
    ]
    expect(together).toEqual(yield* Effect.promise(() => rewardsOf(directory, texts)))
    expect(new Set(together).size).toBe(3)
    // Where the end is what pads, transformers reads the reward before it.
    const padded = yield* Effect.promise(() => save("reward", 1, { pad_token_id: 1 }))
    const { score: unpadded } = yield* open("/", { model: padded })
    const without = texts.map((text) => text.filter((token) => token !== 1))
    const expected = yield* Effect.promise(() => rewardsOf(padded, without))
    expect(yield* Effect.forEach(inputs, unpadded)).toEqual(expected)
    const long = yield* Effect.flip(score(input("1+1=", "2".repeat(40), "length")))
    expect(String(long)).toMatch(/a text of \d+ tokens does not fit the context of 32/)
  }).pipe(Effect.scoped),
)

const loadTokenizer = async () => {
  const gpu = await openDevice()
  const { tokenizer } = await loadModel(gpu, tiny(), { fromScratch: { seed: 0 } })
  gpu.destroy()
  return { tokenizer: tokenizer! }
}

it.live("refuses what is no reward model", () =>
  Effect.gen(function* () {
    const refusal = (directory: string) => Effect.map(Effect.flip(open("/", { model: directory })), String)
    const language = yield* Effect.promise(() => save("lm"))
    expect(yield* refusal(language)).toContain("is a LlamaForCausalLM, and no reward model")
    const several = yield* Effect.promise(() => save("reward", 3))
    expect(yield* refusal(several)).toContain("tells 3 labels apart; a reward model has one")
    expect(yield* refusal("./nowhere")).toMatch(/nowhere: there is no such directory/)
  }).pipe(Effect.scoped),
)
