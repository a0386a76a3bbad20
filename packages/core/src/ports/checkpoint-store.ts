import { Context, Schema, type Effect } from "effect"

export class CheckpointError extends Schema.TaggedError<CheckpointError>()("CheckpointError", {
  reason: Schema.Literals(["not-found", "corrupt", "no-space", "io"]),
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {}

/** An immutable set of named files. Everything a run needs to go on from `step` as if never stopped. */
export interface Checkpoint {
  readonly step: number
  readonly files: Readonly<Record<string, Uint8Array>>
}

export class CheckpointStore extends Context.Service<
  CheckpointStore,
  {
    /** All or nothing: after a failure or a crash a reader sees the whole checkpoint or none. */
    readonly put: (checkpoint: Checkpoint) => Effect.Effect<void, CheckpointError>
    /** Verifies every hash; `corrupt` names the file that does not match. */
    readonly get: (step: number) => Effect.Effect<Checkpoint, CheckpointError>
    /** Steps that have a complete checkpoint, ascending. */
    readonly list: Effect.Effect<ReadonlyArray<number>, CheckpointError>
    readonly delete: (step: number) => Effect.Effect<void, CheckpointError>
  }
>()("@rlpt/core/CheckpointStore") {}
