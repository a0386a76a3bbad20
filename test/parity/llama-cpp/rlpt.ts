/** rlpt on this machine's adapter. */
import { loadModel, packSequences } from "@rlpt/models"
import { openDevice } from "@rlpt/tensor"
import type { NextToken } from "./compare.ts"

export const openRlpt = async (path: string) => {
  const gpu = await openDevice()
  const { config, decoder, parameters, tokenizer } = await loadModel(gpu, path)
  if (tokenizer === undefined) throw new Error(`${path} has no tokenizer`)

  /** The distribution of the token after each of the last `count` of `tokens`. */
  const next = async (tokens: ReadonlyArray<number>, count: number): Promise<ReadonlyArray<NextToken>> => {
    const packed = packSequences([tokens])
    const input = {
      tokens: gpu.tensor(packed.tokens),
      positions: gpu.tensor(packed.positions),
      spans: gpu.tensor(packed.spans, [tokens.length, 4]),
    }
    const hidden = decoder.hidden(parameters, input).slice([tokens.length - count, tokens.length])
    const logits = (await decoder.logits(parameters, hidden).data()) as Float32Array
    for (const tensor of Object.values(input)) tensor.dispose()
    return Array.from({ length: count }, (_, row) =>
      logSoftmax(logits.subarray(row * config.vocabSize, (row + 1) * config.vocabSize)),
    )
  }
  return { adapter: gpu.adapter.name, tokenizer, next, close: () => gpu.destroy() }
}

const logSoftmax = (logits: Float32Array): NextToken => {
  const max = logits.reduce((a, b) => Math.max(a, b))
  const total = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - max), 0))
  return Float64Array.from(logits, (logit) => logit - max - total)
}
