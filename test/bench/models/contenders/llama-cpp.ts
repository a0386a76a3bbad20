/** llama.cpp on the CPU, through node-llama-cpp. The argument is the GGUF file. */
import { getLlama, LlamaLogLevel, type LlamaContext, type LlamaContextSequence, type Token } from "node-llama-cpp"
import { readFileSync } from "node:fs"
import { availableParallelism } from "node:os"
import { serve } from "../protocol.ts"
import type { Work } from "../workloads.ts"

// The package does not export its manifest; this script runs where it is installed.
const manifest = new URL("../node_modules/node-llama-cpp/package.json", import.meta.url)
const own = JSON.parse(readFileSync(manifest, "utf8")) as { readonly version: string }
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error })
const model = await llama.loadModel({ modelPath: process.argv[2]! })
let held:
  | { readonly size: number; readonly context: LlamaContext; readonly sequences: LlamaContextSequence[] }
  | undefined

const reserve = async (size: number) => {
  if (held?.size === size) return held
  await held?.context.dispose()
  const context = await model.createContext({
    contextSize: 1024,
    batchSize: 512,
    sequences: size,
    threads: availableParallelism(),
  })
  held = { size, context, sequences: Array.from({ length: size }, () => context.getSequence()) }
  return held
}

const continueSequence = async (sequence: LlamaContextSequence, prompt: readonly number[], newTokens: number) => {
  await sequence.clearHistory()
  const tokens: number[] = []
  const options = { temperature: 0, yieldEogToken: true }
  for await (const token of sequence.evaluate(prompt as Token[], options)) {
    tokens.push(token)
    if (tokens.length === newTokens) break
  }
  return tokens
}

const run = async (work: Work) => {
  if (work.kind === "train") return undefined
  const { sequences } = await reserve(work.prompts.length)
  // The context puts what sequences ask for at one time into one batch.
  const written = await Promise.all(
    sequences.map((sequence, i) => continueSequence(sequence, work.prompts[i]!, work.newTokens)),
  )
  return written.flat()
}

const { release } = llama.llamaCppRelease
await serve({ version: `${release} (node-llama-cpp ${own.version})` }, run)
