import type { RewardInput } from "@rlpt/core"
import { loadModel, packSequences } from "@rlpt/models"
import { embedding, openDevice } from "@rlpt/tensor"
import { textOf } from "./text.ts"

/** A reward model at work. */
export interface Judge {
  /** @throws Error for a text that does not fit the model's context */
  readonly score: (input: RewardInput) => Promise<number>
  readonly close: () => void
}

/** Tokens of one forward pass: a bound on memory, without influence on rewards. */
const passTokens = 4096

interface Waiting {
  readonly tokens: Int32Array
  readonly resolve: (reward: number) => void
  readonly reject: (cause: unknown) => void
}

/**
 * Loads a reward model onto a device of its own. Texts that wait for it are scored together.
 *
 * @throws Error if the model is no classifier of sequences with one label, or has no tokenizer
 */
export const openJudge = async (source: string, contextLength?: number): Promise<Judge> => {
  const gpu = await openDevice()
  const model = await loadModel(gpu, source, { head: "reward", contextLength }).catch((cause: unknown) => {
    gpu.destroy()
    throw cause
  })
  const { config, configJson, decoder, parameters, tokenizer } = model
  const refuse = (problem: string): never => {
    gpu.destroy()
    throw new Error(`${source} ${problem}`)
  }
  const { architectures } = configJson
  const [architecture] = Array.isArray(architectures) ? architectures : []
  if (!String(architecture).endsWith("ForSequenceClassification"))
    return refuse(`is a ${architecture}, and no reward model (…ForSequenceClassification): train one by rlpt reward`)
  if (config.numLabels !== 1) return refuse(`tells ${config.numLabels} labels apart; a reward model has one`)
  if (tokenizer === undefined) return refuse("has no tokenizer.json, and completions are text")

  const judge = async (texts: ReadonlyArray<Int32Array>): Promise<ArrayLike<number>> => {
    const { positions, spans, tokens } = packSequences(texts)
    let end = -1
    const inputs = {
      tokens: gpu.tensor(tokens),
      positions: gpu.tensor(positions),
      spans: gpu.tensor(spans, [tokens.length, 4]),
      ends: gpu.tensor(Int32Array.from(texts, ({ length }) => (end += length))),
    }
    const hidden = embedding(decoder.hidden(parameters, inputs), inputs.ends)
    const rewards = decoder.values(parameters, hidden)
    const values = await rewards.data()
    for (const tensor of [...Object.values(inputs), rewards]) tensor.dispose()
    return values
  }

  let waiting: Waiting[] = []
  let isWorking = false
  const work = async () => {
    if (isWorking) return
    isWorking = true
    while (waiting.length > 0) {
      let tokens = 0
      const count = waiting.findIndex((text) => (tokens += text.tokens.length) > passTokens)
      const batch = waiting.splice(0, count < 0 ? waiting.length : Math.max(1, count))
      try {
        const rewards = await judge(batch.map((text) => text.tokens))
        for (const [i, { resolve }] of batch.entries()) resolve(rewards[i]!)
      } catch (cause) {
        for (const { reject } of batch) reject(cause)
      }
    }
    isWorking = false
  }

  return {
    score: async (input) => {
      const text = textOf(tokenizer, input)
      // transformers asks for the reward at the last token that does not pad.
      const tokens = text.subarray(0, text.findLastIndex((token) => token !== configJson["pad_token_id"]) + 1)
      if (tokens.length === 0) throw new Error("there is no text to score")
      if (tokens.length > config.contextLength) {
        throw new Error(`a text of ${tokens.length} tokens does not fit the context of ${config.contextLength}`)
      }
      return new Promise((resolve, reject) => {
        waiting.push({ tokens, resolve, reject })
        // What else arrives in this turn goes along.
        queueMicrotask(() => void work())
      })
    },
    close: () => {
      for (const { reject } of waiting) reject(new Error("the run is over"))
      waiting = []
      gpu.destroy()
    },
  }
}
