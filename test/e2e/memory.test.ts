import { Effect, Layer, Schema } from "effect"
import { train, TrainOptions, withAlgorithmDefaults } from "@rlpt/algos"
import { CheckpointStore, combineRewards, Reward, Task, Tracker, type Split } from "@rlpt/core"
import { criticLayer, GpuDevice, policyLayer, referenceLayer } from "@rlpt/engines"
import type { MemoryReport } from "@rlpt/tensor"
import { expect, test } from "vitest"
import { tinyModelFiles } from "./support/model.ts"

const split: Split = {
  size: 64,
  row: (index) => Effect.succeed({ prompt: `${index}${"+1".repeat((index * 7) % 11)}=`, columns: {} }),
}

const sevens = combineRewards([
  {
    name: "sevens",
    weight: 1,
    timeout: 10,
    concurrency: 16,
    retries: 0,
    onError: "fail",
    reward: { score: ({ completion }) => Effect.succeed([...completion].filter((c) => c === "7").length / 12) },
  },
])

const store = CheckpointStore.of({
  put: () => Effect.void,
  get: () => Effect.die("nothing is read"),
  list: Effect.succeed([]),
  delete: () => Effect.void,
})

/** What the GPU holds after each step of a run. */
const memoryByStep = (options: TrainOptions): Promise<ReadonlyArray<MemoryReport>> => {
  // No token ends a text: all completions are as long as they may be, so the shapes are the same on every adapter.
  const model = tinyModelFiles({ eos_token_id: 1000 })
  const reports: MemoryReport[] = []
  const tracker = Effect.map(GpuDevice, (gpu) =>
    Tracker.of({
      metrics: () => Effect.void,
      timings: () => Effect.sync(() => void reports.push(gpu.memory())),
      samples: () => Effect.void,
      rewind: () => Effect.void,
    }),
  )
  const services = Layer.mergeAll(
    policyLayer({ model, optimizer: {}, rolloutBatchSize: 7 }),
    referenceLayer({ model }),
    options.algorithm === "ppo" ? criticLayer({ model }, {}) : Layer.empty,
    Layer.effect(Tracker, tracker),
    Layer.effect(Reward, sevens),
    Layer.succeed(CheckpointStore, store),
    Layer.succeed(Task, { name: "sums", train: split, eval: split }),
  ).pipe(Layer.provide(GpuDevice.layer()))
  return Effect.runPromise(Effect.as(train(options).pipe(Effect.provide(services)), reports))
}

test.each(["grpo", "ppo"] as const)("100 steps of %s hold as many bytes on the GPU as 10", async (algorithm) => {
  const options = Schema.decodeSync(TrainOptions)(
    withAlgorithmDefaults({
      algorithm,
      maxSteps: 100,
      promptsPerStep: 6,
      stepsPerGeneration: 2,
      numIterations: 2,
      maxCompletionLength: 12,
      microBatchSize: 5,
      beta: 0.05,
      learningRate: 1e-3,
      evalSteps: 20,
      evalSize: 5,
      saveSteps: 10,
      ...(algorithm === "grpo" && { numGenerations: 4 }),
    }),
  )
  const reports = await memoryByStep(options)
  expect(reports).toHaveLength(100)
  const early = reports[9]!
  expect(reports[99]!.byOwner).toEqual(early.byOwner)
  expect(reports[99]!.inUse).toBe(early.inUse)
  expect(early.inUse).toBeGreaterThan(100_000)
})
