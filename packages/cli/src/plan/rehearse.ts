import { Effect, Layer, Stream } from "effect"
import { encodeExample, encodePrompt, sft, train, type ChatTemplateOptions } from "@rlpt/algos"
import {
  CheckpointError,
  CheckpointStore,
  Critic,
  Policy,
  Reward,
  RolloutEngine,
  Task,
  Tracker,
  type LossBatch,
  type LossProgram,
  type ModelEngine,
  type RolloutRequest,
  type Split,
  type Trajectory,
} from "@rlpt/core"
import { GpuDevice, PolicyInfo } from "@rlpt/engines"
import type { Gpu, MemoryReport } from "@rlpt/tensor"
import type { SftConfig, TrainConfig } from "../config/schema.ts"
import { sftEngines, trainEngines } from "../layers.ts"
import type { TrainedPlaces } from "../model-place.ts"

/** A run to be rehearsed. */
export type Rehearsed = { readonly model: TrainedPlaces; readonly task: Task["Service"] } & (
  | {
      readonly command: "train"
      readonly config: TrainConfig
      /** Mean length of completions to reckon with. */
      readonly completionLength: number
    }
  | { readonly command: "sft"; readonly config: SftConfig }
)

/** What a rehearsal brings to light. */
export interface Rehearsal {
  readonly memory: MemoryReport
  readonly parameters: number
  readonly trainable: number
  readonly vocabSize: number
  /** The most completion tokens of one micro-batch. */
  readonly scored: number
}

/** Rows of a split among which the longest are looked for. */
const rowsToSearch = 512

/**
 * The first step of a run on `gpu`, with the longest prompts of its task and completions of a given length. It is the
 * program of the run itself, so what `gpu` then says of its memory is what the run will need; on a rehearsal device
 * nothing is computed. Nothing is scored, tracked or saved.
 */
export const rehearse = (run: Rehearsed, gpu: Gpu) => {
  const device = Layer.succeed(GpuDevice, gpu)
  const step = { maxSteps: 1, saveSteps: 0 }
  let scored = 0
  const onBatch = ({ sequences }: LossBatch) => {
    const tokens = sequences.reduce((sum, { tokens, promptLength }) => sum + tokens.length - promptLength, 0)
    scored = Math.max(scored, tokens)
  }
  const outcome = Effect.map(PolicyInfo, ({ model, parameters, trainable }): Rehearsal => {
    return { memory: gpu.memory(), parameters, trainable, vocabSize: model.config.vocabSize, scored }
  })
  const stage = Layer.mergeAll(longestFirst(run.task, run.config), watched(onBatch), silence)
  if (run.command === "sft") {
    return Effect.flatMap(RolloutEngine, ({ contextLength }) =>
      sft({ ...run.config, ...step, maxLength: Math.min(run.config.maxLength, contextLength) }),
    ).pipe(
      Effect.andThen(outcome),
      Effect.provide(Layer.provideMerge(stage, sftEngines(run.config, run.model, device))),
      Effect.scoped,
    )
  }
  const critic = run.config.algorithm === "ppo" ? unsavedCritic : Layer.empty
  return train({ ...run.config, ...step, logCompletionsSteps: 0 }).pipe(
    Effect.andThen(outcome),
    Effect.provide(
      Layer.provideMerge(
        Layer.mergeAll(stage, withLength(run.completionLength), critic),
        trainEngines(run.config, run.model, device),
      ),
    ),
    Effect.scoped,
  )
}

/** The task with its longest rows first, as often as it takes. */
const longestFirst = ({ name, train: rows, eval: heldOut }: Task["Service"], options: ChatTemplateOptions) =>
  Layer.effect(
    Task,
    Effect.gen(function* () {
      const task = { name, train: yield* longest(rows, options) }
      return { ...task, ...(heldOut && { eval: yield* longest(heldOut, options) }) }
    }),
  )

const longest = Effect.fnUntraced(function* (split: Split, options: ChatTemplateOptions) {
  const rows = yield* Effect.forEach(
    Array.from({ length: Math.min(split.size, rowsToSearch) }, (_, i) => i),
    (index) =>
      Effect.gen(function* () {
        const row = yield* split.row(index)
        const where = `row ${index}`
        const { tokens } = row.completion
          ? yield* encodeExample(row, row.completion, options, where)
          : yield* encodePrompt(row, options, where)
        return { row, length: tokens.length }
      }),
  )
  const sorted = rows.toSorted((a, b) => b.length - a.length)
  // The step draws its rows at random: whichever they are, the longest come first.
  let next = 0
  return {
    size: split.size,
    row: () => Effect.sync(() => sorted[next++ % sorted.length]!.row),
  } satisfies Split
})

/** Completions that are `mean` tokens long. The engine samples as ever; what it says is put aside. */
const withLength = (mean: number) =>
  Layer.effect(
    RolloutEngine,
    Effect.map(RolloutEngine, (engine) => {
      let number = 0
      /** Whole lengths whose mean is `mean`. */
      const nextLength = () => Math.max(1, Math.floor(++number * mean) - Math.floor((number - 1) * mean))
      return {
        ...engine,
        generate: (request: RolloutRequest) =>
          Stream.map(engine.generate(request), (trajectory): Trajectory => {
            const length = nextLength()
            const completionTokens = new Int32Array(length)
            return {
              ...trajectory,
              completionTokens,
              samplerLogProbs: new Float32Array(length),
              finishReason: "length",
            }
          }),
      }
    }),
  )

/** Keeps weights from being read back for a checkpoint that nobody stores. */
const unsaved = (engine: ModelEngine): ModelEngine => ({ ...engine, exportState: Effect.succeed({ files: {} }) })

const unsavedCritic = Layer.effect(Critic, Effect.map(Critic, unsaved))

/** The policy; `onBatch` hears of what it is trained on. */
const watched = (onBatch: (batch: LossBatch) => void) =>
  Layer.effect(
    Policy,
    Effect.map(Policy, (policy) => ({
      ...unsaved(policy),
      accumulate: (batch: LossBatch, loss: LossProgram) =>
        Effect.andThen(
          Effect.sync(() => onBatch(batch)),
          policy.accumulate(batch, loss),
        ),
    })),
  )

const nothing = () => Effect.void

/** Rewards that differ, so that there is something to learn; trackers and checkpoints that keep nothing. */
const silence = Layer.mergeAll(
  Layer.succeed(Reward, {
    names: [],
    score: (inputs) => Effect.succeed(inputs.map((_, i) => ({ rewards: {}, reward: i % 2 }))),
  }),
  Layer.succeed(Tracker, { metrics: nothing, timings: nothing, samples: nothing, rewind: nothing }),
  Layer.succeed(CheckpointStore, {
    list: Effect.succeed([]),
    put: nothing,
    delete: nothing,
    get: () => Effect.fail(new CheckpointError({ reason: "not-found", message: "a rehearsal keeps no checkpoints" })),
  }),
)
