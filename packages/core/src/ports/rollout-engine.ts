import { Context, Schema, type Effect, type Stream } from "effect"
import type { SamplingParams } from "../sampling.ts"
import type { Prompt, Trajectory } from "../trajectory.ts"

export class RolloutError extends Schema.TaggedError<RolloutError>()("RolloutError", {
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {}

export interface RolloutRequest {
  readonly prompts: ReadonlyArray<Prompt>
  /** Completions per prompt. */
  readonly numGenerations: number
  readonly sampling: SamplingParams
  /**
   * Key of the random numbers. A draw depends on (seed, prompt row, sample, position) and on nothing else: not on the
   * batch, its order or its size.
   */
  readonly seed: number
}

/** Turns prompts into trajectories. */
export class RolloutEngine extends Context.Service<
  RolloutEngine,
  {
    /** Most tokens that a prompt and its completion may have together. */
    readonly contextLength: number
    /** Emits `numGenerations` trajectories for each prompt, in any order. */
    readonly generate: (request: RolloutRequest) => Stream.Stream<Trajectory, RolloutError>
    /** Makes the policy's current weights the ones sampled from. Copies nothing where buffers are shared. */
    readonly syncWeights: (policyVersion: number) => Effect.Effect<void, RolloutError>
  }
>()("@rlpt/core/RolloutEngine") {}
