/** rlpt on WebGPU, through the engines that training uses. The argument is the model's directory. */
import type { LossBatch } from "@rlpt/core"
import { sftLoss } from "@rlpt/algos"
import { makeModelEngine, makeRolloutEngine } from "@rlpt/engines"
import { loadModel, type Model } from "@rlpt/models"
import { openDevice } from "@rlpt/tensor"
import { Effect, Stream } from "effect"
import { measurePeak } from "../../peak.ts"
import { median } from "../../measure.ts"
import { modelFiles } from "../model.ts"
import { serve } from "../protocol.ts"
import { decode, narrowLlama, type Work } from "../workloads.ts"

const gpu = await openDevice()
const directory = process.argv[2]!

const openModel = (model: Model) => {
  const rollouts = makeRolloutEngine(gpu, model, { ...model.tokenizer!, endOfText: [] }, { rolloutBatchSize: 64 })
  const engine = makeModelEngine(gpu, model, { betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0 })

  const generate = async (prompts: readonly (readonly number[])[], maxCompletionLength: number) => {
    const trajectories = await Effect.runPromise(
      Stream.runCollect(
        rollouts.generate({
          prompts: prompts.map((tokens, row) => ({ row, text: "", tokens: Int32Array.from(tokens), columns: {} })),
          numGenerations: 1,
          sampling: { temperature: 0, topK: 0, topP: 1, minP: 0, maxCompletionLength, stopTokens: [] },
          seed: 0,
        }),
      ),
    )
    return [...trajectories]
      .sort((a, b) => a.prompt.row - b.prompt.row)
      .flatMap(({ completionTokens }) => [...completionTokens])
  }

  const train = async (sequences: readonly (readonly number[])[]) => {
    const scored = sequences.reduce((sum, { length }) => sum + length - 1, 0)
    const batch: LossBatch = {
      sequences: sequences.map((tokens) => ({ tokens: Int32Array.from(tokens), promptLength: 1 })),
      fields: {},
      weights: sequences.map(({ length }) => new Float32Array(length - 1).fill(1 / scored)),
      temperature: 1,
    }
    const { loss } = await Effect.runPromise(engine.accumulate(batch, sftLoss))
    await Effect.runPromise(engine.step({ learningRate: 1e-4, maxGradNorm: 1 }))
    return [loss]
  }

  return (work: Work) => (work.kind === "train" ? train(work.sequences) : generate(work.prompts, work.newTokens))
}

/** The adapter's multiply-adds, and what a pass costs when there is next to nothing in it. */
const limits = async () => {
  const peak = await measurePeak(gpu)
  const model = await loadModel(gpu, modelFiles(narrowLlama), { fromScratch: { seed: 1 } })
  const run = openModel(model)
  const { work, passes } = decode(1, 32)
  await run(work)
  const times: number[] = []
  for (let round = 0; round < 3; round++) {
    const before = performance.now()
    await run(work)
    times.push((performance.now() - before) / passes)
  }
  return { gflops: peak.wall, emptyPassMs: median(times) }
}

const version = `${gpu.adapter.driver || gpu.adapter.name}`
await serve({ version }, openModel(await loadModel(gpu, directory)), limits)
