import { Effect, Result } from "effect"
import { scoringBytes } from "@rlpt/engines"
import { rehearsalOf, type Gpu, type RehearsalOptions } from "@rlpt/tensor"
import { rehearse, type Rehearsal, type Rehearsed } from "./rehearse.ts"

/** Memory that a run will take, in bytes. */
export interface Plan {
  readonly weights: number
  readonly gradients: number
  readonly optimizer: number
  readonly kvCache: number
  /** Intermediates of the largest program, but for the logits. */
  readonly activations: number
  /** Logits that exist at one time while tokens are scored. */
  readonly logProbChunk: number
  readonly other: number
  /** The most that is held at any time. */
  readonly peak: number
  /** Scalars of the model, and how many are trained: of these, or of an adapter. */
  readonly parameters: number
  readonly trainable: number
}

/** What a run takes on a device like `gpu`, of which nothing is taken to find out. */
export const planRun = (run: Rehearsed, gpu: Gpu, options?: RehearsalOptions) =>
  Effect.map(rehearse(run, rehearsalOf(gpu, options)), planOf)

const planOf = ({ memory: { byOwner, peak }, parameters, trainable, vocabSize, scored }: Rehearsal): Plan => {
  const held = (owner: string) => byOwner[owner] ?? 0
  const workspace = held("workspace")
  const logProbChunk = Math.min(workspace, scoringBytes(scored, vocabSize))
  const named = {
    weights: held("parameters"),
    gradients: held("gradients"),
    optimizer: held("optimizer"),
    kvCache: held("kv-cache"),
    activations: workspace - logProbChunk,
    logProbChunk,
  }
  const sum = Object.values(named).reduce((total, bytes) => total + bytes, 0)
  return { ...named, other: peak - sum, peak, parameters, trainable }
}

/** Sequences of one update: more than these no micro-batch has. */
export const sequencesPerUpdate = (run: Rehearsed): number =>
  run.command === "sft"
    ? run.config.batchSize
    : (run.config.promptsPerStep * run.config.numGenerations) / run.config.stepsPerGeneration

/** The largest `microBatchSize` with which `run` stays within `memory` bytes, by bisection; 0 if none does. */
export const largestMicroBatch = Effect.fn("largestMicroBatch")(function* (
  run: Rehearsed,
  gpu: Gpu,
  memory: number,
  options?: RehearsalOptions,
) {
  const fits = (microBatchSize: number) => {
    const changed = { ...run, config: { ...run.config, microBatchSize } } as Rehearsed
    // A tensor may also be too large for the adapter to bind: that does not fit either.
    return Effect.map(Effect.result(rehearse(changed, rehearsalOf(gpu, options))), (result) =>
      Result.isSuccess(result) ? result.success.memory.peak <= memory : false,
    )
  }
  let [low, high] = [0, sequencesPerUpdate(run)]
  while (low < high) {
    const middle = low === 0 && high === sequencesPerUpdate(run) ? high : Math.ceil((low + high) / 2)
    if (yield* fits(middle)) low = middle
    else high = middle - 1
  }
  return low
})
