import { Context, Schema, type Effect } from "effect"
import type { ChatMessage } from "../chat.ts"
import type { Trajectory } from "../trajectory.ts"

export class RewardError extends Schema.TaggedError<RewardError>()("RewardError", {
  /** Name of the reward that failed. */
  reward: Schema.String,
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {}

/** What a reward function sees of a trajectory. */
export interface RewardInput {
  /** As the model read it: a conversation is written by its chat template. */
  readonly prompt: string
  /** The messages of a conversation; absent where the prompt is text. */
  readonly messages?: ReadonlyArray<ChatMessage>
  readonly completion: string
  readonly completionTokens: Int32Array
  /** The other columns of the dataset row. */
  readonly columns: Readonly<Record<string, unknown>>
  /** `length` when the completion was cut at `maxCompletionLength`. */
  readonly finishReason: Trajectory["finishReason"]
  readonly maxCompletionLength: number
}

/** What the rewards of a run made of one trajectory. */
export interface Score {
  readonly rewards: Readonly<Record<string, number | null>>
  readonly reward: number | null
}

/** All rewards of a run behind one port: names, weights, time-outs, retries and failures are settled inside. */
export class Reward extends Context.Service<
  Reward,
  {
    readonly names: ReadonlyArray<string>
    /** Scores in the order of the inputs. */
    readonly score: (inputs: ReadonlyArray<RewardInput>) => Effect.Effect<ReadonlyArray<Score>, RewardError>
  }
>()("@rlpt/core/Reward") {}
