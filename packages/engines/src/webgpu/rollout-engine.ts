import { RolloutError, type RolloutEngine, type RolloutRequest, type Trajectory } from "@rlpt/core"
import type { Model, ModelTokenizer } from "@rlpt/models"
import type { Gpu } from "@rlpt/tensor"
import { Effect, Stream } from "effect"
import { Decoding } from "./decoding.ts"

export interface RolloutOptions {
  /** Completions decoded side by side: memory and speed, never the samples. */
  readonly rolloutBatchSize: number
}

/** A rollout engine over the weights of a model engine: a weight sync has nothing to copy. */
export const makeRolloutEngine = (
  gpu: Gpu,
  model: Model,
  tokenizer: ModelTokenizer,
  { rolloutBatchSize }: RolloutOptions,
): RolloutEngine["Service"] => {
  const { contextLength } = model.config
  const decoding = new Decoding(gpu, model)
  let policyVersion = 0

  const generate = ({ prompts, numGenerations, sampling, seed }: RolloutRequest) => {
    const stopTokens = [...new Set([...tokenizer.endOfText, ...sampling.stopTokens])].sort((a, b) => a - b)
    const jobs = prompts.flatMap((prompt) =>
      Array.from({ length: numGenerations }, (_, sample) => ({ prompt, sample })),
    )
    const waves = Array.from({ length: Math.ceil(jobs.length / rolloutBatchSize) }, (_, i) =>
      jobs.slice(i * rolloutBatchSize, (i + 1) * rolloutBatchSize),
    )
    const run = async (wave: typeof jobs): Promise<ReadonlyArray<Trajectory>> => {
      const completions = await decoding.run(
        wave.map(({ prompt, sample }) => ({ promptTokens: prompt.tokens, key: [seed >>> 0, prompt.row, sample] })),
        sampling,
        stopTokens,
      )
      return wave.map(({ prompt, sample }, i) => {
        const { tokens, logProbs, stopped } = completions[i]!
        return {
          prompt,
          sample,
          completionTokens: tokens,
          completion: continuation(tokenizer, prompt.tokens, tokens),
          samplerLogProbs: logProbs,
          finishReason: stopped ? "stop" : "length",
          policyVersion,
        }
      })
    }
    const tooLong = prompts.find(({ tokens }) => tokens.length + sampling.maxCompletionLength > contextLength)
    if (tooLong)
      return Stream.fail(
        new RolloutError({
          message: `row ${tooLong.row}: a prompt of ${tooLong.tokens.length} tokens and a completion of ${sampling.maxCompletionLength} do not fit the model's context of ${contextLength}; shorten the prompt or set maxCompletionLength lower`,
        }),
      )
    const empty = prompts.find(({ tokens }) => tokens.length === 0)
    if (empty)
      return Stream.fail(
        new RolloutError({ message: `row ${empty.row}: the prompt has no tokens, and the model no start token` }),
      )
    return Stream.fromIterable(waves).pipe(
      Stream.mapEffect((wave) =>
        Effect.tryPromise({
          try: () => run(wave),
          catch: (cause) =>
            new RolloutError({ message: `sampling failed: ${cause instanceof Error ? cause.message : cause}`, cause }),
        }),
      ),
      Stream.flatMap(Stream.fromIterable),
    )
  }

  return {
    contextLength,
    generate,
    syncWeights: (version) =>
      Effect.sync(() => {
        policyVersion = version
      }),
  }
}

/** Text that `completion` adds to `prompt`: decoded together, since a decoder may drop a space at the start of a text. */
const continuation = (tokenizer: ModelTokenizer, prompt: Int32Array, completion: Int32Array): string => {
  const before = tokenizer.decode(prompt)
  const whole = tokenizer.decode([...prompt, ...completion])
  return whole.startsWith(before) ? whole.slice(before.length) : tokenizer.decode(completion)
}
