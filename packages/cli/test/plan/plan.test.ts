import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { it } from "@effect/vitest"
import { train } from "@rlpt/algos"
import { CheckpointError, CheckpointStore, Task, Tracker } from "@rlpt/core"
import { GpuDevice } from "@rlpt/engines"
import { openDevice, rehearsalOf } from "@rlpt/tensor"
import { Effect, Layer } from "effect"
import { describe, expect } from "vitest"
import { loadTrainConfig } from "../../src/config/load.ts"
import { pluginRegistry, preparePlugins } from "../../src/configured-plugins.ts"
import { taskLayer, trainEngines } from "../../src/layers.ts"
import { findModels } from "../../src/model-place.ts"
import { largestMicroBatch, planRun } from "../../src/plan/plan.ts"
import { rehearse } from "../../src/plan/rehearse.ts"

const stories = fileURLToPath(new URL("../../../../../shared/models/stories260K", import.meta.url))

const small = [
  "promptsPerStep=8",
  "numGenerations=4",
  "microBatchSize=16",
  "maxCompletionLength=8",
  "evalSteps=1",
  "evalSize=12",
]

/** A run of the arithmetic task, a device of its own, and the engines' plugins. */
const open = Effect.fnUntraced(function* (set: ReadonlyArray<string>) {
  const { config, origin } = yield* loadTrainConfig({ directory: "/nowhere", set: [...small, ...set] })
  const plugins = yield* preparePlugins(yield* pluginRegistry(config.root), { config, origin })
  const model = yield* findModels({ config, origin })
  const tasks = taskLayer(plugins, { directory: config.root, runDirectory: "/nowhere" })
  const task = yield* Effect.provide(Task, tasks)
  const gpu = yield* Effect.acquireRelease(
    Effect.promise(() => openDevice()),
    (device) => Effect.sync(() => device.destroy()),
  )
  return { config, model, tasks, task, gpu }
})

const variants: Readonly<Record<string, ReadonlyArray<string>>> = {
  "full training": [],
  "an adapter, with a reference and gradient checkpointing": ["lora.r=4", "beta=0.1", "gradientCheckpointing=true"],
  "one layer": ["trainable={ layers: [-1, -1] }"],
  "bfloat16 weights, with a reference": ["dtype=bfloat16", "beta=0.1"],
  "PPO, with critic and reference": ["algorithm=ppo", "promptsPerStep=32"],
  "PPO with an adapter, whose critic shares the weights": ["algorithm=ppo", "promptsPerStep=32", "lora.r=4"],
}

describe.each(Object.entries(variants))("the plan of %s", (_, set) => {
  it.live("is what the same step takes on the device, byte by byte", () =>
    Effect.gen(function* () {
      const { config, gpu, model, task } = yield* open(set)
      const run = { command: "train", config, model, task, completionLength: 8 } as const
      const before = gpu.memory()
      const planned = yield* rehearse(run, rehearsalOf(gpu))
      expect(gpu.memory()).toEqual(before)
      const real = yield* rehearse(run, gpu)
      expect(planned).toEqual(real)
      expect(planned.memory.byOwner["workspace"]).toBeGreaterThan(0)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
  )
})

const ppo = ["algorithm=ppo", "promptsPerStep=32", "numIterations=1"]
const runs: Readonly<Record<string, ReadonlyArray<string>>> = {
  "GRPO on the built-in model": [],
  "GRPO with gradient checkpointing": ["gradientCheckpointing=true"],
  "GRPO with an adapter": ["lora.r=4"],
  "GRPO with an adapter, a reference and gradient checkpointing": [
    "lora.r=4",
    "beta=0.1",
    "gradientCheckpointing=true",
  ],
  PPO: ppo,
  "PPO with an adapter": [...ppo, "lora.r=4"],
  "GRPO on stories260K (skipped without the shared models)": [`model=${stories}`],
}

describe.each(Object.entries(runs))("the plan for %s", (_, set) => {
  it.live.skipIf(set.some((one) => one.includes(stories)) && !existsSync(stories))(
    "is within 5 % of the peak of a run",
    () =>
      Effect.gen(function* () {
        const { config, gpu, model, task, tasks } = yield* open(["microBatchSize=32", ...set])
        const lengths: number[] = []
        const nothing = () => Effect.void
        const silence = Layer.mergeAll(
          Layer.succeed(Tracker, {
            metrics: (_step, metrics) =>
              Effect.sync(() => void lengths.push(metrics["completions/mean_length"] ?? Number.NaN)),
            timings: nothing,
            samples: nothing,
            rewind: nothing,
          }),
          Layer.succeed(CheckpointStore, {
            list: Effect.succeed([]),
            put: nothing,
            delete: nothing,
            get: () => Effect.fail(new CheckpointError({ reason: "not-found", message: "none" })),
          }),
        )
        yield* train({ ...config, maxSteps: 2, evalSteps: 2, saveSteps: 0 }).pipe(
          Effect.provide(Layer.mergeAll(tasks, silence, trainEngines(config, model, Layer.succeed(GpuDevice, gpu)))),
        )
        const completionLength = Math.max(...lengths.filter(Number.isFinite))
        const { peak } = yield* planRun({ command: "train", config, model, task, completionLength }, gpu)
        const real = gpu.memory().peak
        expect({ within: Math.abs(peak / real - 1) < 0.05, peak, real }).toEqual({ within: true, peak, real })
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
  )
})

it.live("the largest micro-batch fits, and one more would not", () =>
  Effect.gen(function* () {
    const { config, gpu, model, task } = yield* open([])
    const run = { command: "train", config, model, task, completionLength: 8 } as const
    const peak = (microBatchSize: number) =>
      Effect.map(planRun({ ...run, config: { ...config, microBatchSize } }, gpu), (plan) => plan.peak)
    const memory = yield* peak(9)
    const largest = yield* largestMicroBatch(run, gpu, memory)
    expect(largest).toBeGreaterThanOrEqual(9)
    expect(yield* peak(largest)).toBeLessThanOrEqual(memory)
    expect(yield* peak(largest + 1)).toBeGreaterThan(memory)
    expect(yield* largestMicroBatch(run, gpu, 2 ** 40)).toBe(32)
    expect(yield* largestMicroBatch(run, gpu, 2 ** 20)).toBe(0)
  }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
)
