import { type Checkpoint, CheckpointError, CheckpointStore, type ModelEngine } from "@rlpt/core"
import { Effect, Schema } from "effect"
import { TrainError } from "../errors.ts"

/** All that a run has to remember besides its models; everything else follows from options, seed and step. */
export const TrainerState = Schema.Struct({
  /** Steps done. */
  step: Schema.Int,
  /** Optimiser updates behind the policy's weights. */
  policyVersion: Schema.Int,
  /** Prompt and completion tokens seen by training. */
  numTokens: Schema.Int,
  /** Updates refused in a row, up to now, because a gradient was not finite. */
  refusedUpdates: Schema.Int,
})
export type TrainerState = typeof TrainerState.Type

export const initialState: TrainerState = { step: 0, policyVersion: 0, numTokens: 0, refusedUpdates: 0 }

/** The trained models of a run by the folder that their files get in a checkpoint: `policy`, `critic`. */
export type TrainedModels = Readonly<Record<string, ModelEngine>>

const TRAINER_FILE = "trainer.json"
const TrainerJson = Schema.fromJsonString(TrainerState)

/**
 * Writes the checkpoint of `state.step`, then deletes the oldest ones beyond `saveTotalLimit`. A checkpoint of the same
 * step can only be a corrupt one that {@link restoreNewest} passed over, and is replaced.
 */
export const saveCheckpoint = Effect.fn("saveCheckpoint")(function* (
  state: TrainerState,
  models: TrainedModels,
  saveTotalLimit: number,
) {
  const store = yield* CheckpointStore
  const files: Record<string, Uint8Array> = {}
  for (const [folder, model] of Object.entries(models)) {
    const exported = yield* model.exportState
    for (const [name, bytes] of Object.entries(exported.files)) files[`${folder}/${name}`] = bytes
  }
  files[TRAINER_FILE] = new TextEncoder().encode(JSON.stringify(state))

  if ((yield* store.list).includes(state.step)) yield* store.delete(state.step)
  yield* store.put({ step: state.step, files })
  const saved = (yield* store.list).filter((step) => step <= state.step)
  yield* Effect.forEach(saved.slice(0, -saveTotalLimit), store.delete, { discard: true })
})

/**
 * Restores `models` from the newest sound checkpoint and returns its state; `undefined` if there is no checkpoint at
 * all. A corrupt one is named in a warning and the one before it is tried; if none is sound the run fails rather than
 * silently begin again.
 */
export const restoreNewest = Effect.fn("restoreNewest")(function* (models: TrainedModels) {
  const store = yield* CheckpointStore
  const steps = yield* store.list
  for (const step of steps.toReversed()) {
    const restored = yield* readCheckpoint(step).pipe(
      Effect.catchIf(
        (error) => error.reason === "corrupt",
        (error) =>
          Effect.as(
            Effect.logWarning(`Checkpoint of step ${step} is corrupt, trying an older one: ${error.message}`),
            undefined,
          ),
      ),
    )
    if (restored === undefined) continue
    for (const [folder, model] of Object.entries(models)) {
      yield* model.restoreState({ files: yield* filesOf(folder, restored.checkpoint) })
    }
    return restored.state
  }
  if (steps.length === 0) return undefined
  return yield* new TrainError({
    message: `None of the checkpoints (steps ${steps.join(", ")}) is sound. Delete them to start from step 0.`,
  })
})

const readCheckpoint = Effect.fnUntraced(function* (step: number) {
  const checkpoint = yield* (yield* CheckpointStore).get(step)
  const bytes = checkpoint.files[TRAINER_FILE]
  const state = yield* Schema.decodeUnknownEffect(TrainerJson)(bytes && new TextDecoder().decode(bytes)).pipe(
    Effect.mapError(
      (cause) => new CheckpointError({ reason: "corrupt", message: `${TRAINER_FILE}: ${cause.message}`, cause }),
    ),
  )
  return { checkpoint, state }
})

const filesOf = Effect.fnUntraced(function* (folder: string, { files, step }: Checkpoint) {
  const prefix = `${folder}/`
  const entries = Object.entries(files).filter(([name]) => name.startsWith(prefix))
  if (entries.length > 0) return Object.fromEntries(entries.map(([name, bytes]) => [name.slice(prefix.length), bytes]))
  return yield* new TrainError({
    message: `The checkpoint of step ${step} has no ${folder}: it was made by another algorithm. Use its options, or a new run.`,
  })
})
