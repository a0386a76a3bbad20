/** llama.cpp on the CPU, through node-llama-cpp. */
import { getLlama, LlamaLogLevel, type Token } from "node-llama-cpp"
import type { NextToken } from "./compare.ts"

export interface Written {
  readonly tokens: ReadonlyArray<number>
  /** What each of them was chosen from. */
  readonly next: ReadonlyArray<NextToken>
}

export const openLlama = async (modelPath: string) => {
  const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error })
  const model = await llama.loadModel({ modelPath })
  // One thread: llama.cpp's wait for each other without sleeping, which stalls a machine that has other work. Keys and
  // values are f16 unless one asks for f32.
  const exact = { experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32" } as const
  const context = await model.createContext({ contextSize: 512, sequences: 1, threads: 1, ...exact })
  const sequence = context.getSequence()
  const vocabSize = model.fileInfo.metadata.tokenizer.ggml.tokens.length
  // The distribution as the model has it: nothing is cut off or reshaped.
  const options = { temperature: 1, topK: 0, topP: 1, minP: 0 }

  /** Evaluates `tokens` behind what was evaluated before, and gives the distribution of the token after them. */
  const evaluate = async (tokens: ReadonlyArray<number>): Promise<NextToken> => {
    const items = tokens.map((token) => token as Token)
    const last = items.pop()!
    const results = await sequence.controlledEvaluate([
      ...items,
      [last, { generateNext: { probabilities: true, options } }],
    ])
    const logProbs = new Float64Array(vocabSize).fill(Number.NEGATIVE_INFINITY)
    for (const [token, probability] of results.at(-1)!.next.probabilities!) logProbs[token] = Math.log(probability)
    return logProbs
  }

  return {
    /** What llama.cpp's own tokenizer makes of a text. */
    tokenize: (text: string): ReadonlyArray<number> => [...model.tokenize(text, true)],
    /** The likeliest token each time, up to `count` or one that ends a text. */
    write: async (prompt: ReadonlyArray<number>, count: number, ends: ReadonlySet<number>): Promise<Written> => {
      await sequence.clearHistory()
      const [tokens, next]: [number[], NextToken[]] = [[], []]
      for (let pending = prompt; tokens.length < count;) {
        const logProbs = await evaluate(pending)
        const token = logProbs.indexOf(logProbs.reduce((a, b) => Math.max(a, b)))
        tokens.push(token)
        next.push(logProbs)
        if (ends.has(token)) break
        pending = [token]
      }
      return { tokens, next }
    },
    close: () => llama.dispose(),
  }
}
