import { Context, Schema, type Effect } from "effect"

export class TaskError extends Schema.TaggedError<TaskError>()("TaskError", {
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {}

/** One row of a data set: text for the model and columns for the rewards. */
export interface TaskRow {
  readonly prompt: string
  /** The text to imitate; only supervised fine-tuning reads it. */
  readonly completion?: string
  readonly columns: Readonly<Record<string, unknown>>
}

export interface Split {
  readonly size: number
  /** The row at `index` (0 ≤ index < size): the same row every time. */
  readonly row: (index: number) => Effect.Effect<TaskRow, TaskError>
}

/** Where prompts come from. */
export class Task extends Context.Service<
  Task,
  {
    readonly name: string
    readonly train: Split
    /** Held out of training; absent when the task has no such split. */
    readonly eval?: Split
  }
>()("@rlpt/core/Task") {}
