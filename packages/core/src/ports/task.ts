import { Context, Schema, type Effect } from "effect"
import type { ChatTools, Content } from "../chat.ts"

export class TaskError extends Schema.TaggedError<TaskError>()("TaskError", {
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {}

/** One row of a data set: text or a conversation for the model, and columns for the rewards. */
export interface TaskRow {
  readonly prompt: Content
  /** What to imitate, of the same kind as the prompt; only supervised fine-tuning reads it. */
  readonly completion?: Content
  /** The better and the worse of two completions; only the training of a reward model reads them. */
  readonly chosen?: Content
  readonly rejected?: Content
  /** Tools that the chat template of a conversation tells the model of. */
  readonly tools?: ChatTools
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
