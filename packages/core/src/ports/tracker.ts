import { Context, Schema, type Effect } from "effect"

export class TrackerError extends Schema.TaggedError<TrackerError>()("TrackerError", {
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {}

/**
 * Metric values of one step, by TRL's names (`reward`, `kl`, `completions/mean_length`, …): functions of configuration
 * and seed alone, so that a resumed run writes the same bytes. What a clock measures goes to `timings`.
 */
export type Metrics = Readonly<Record<string, number>>

/** One line of the sample log. */
export interface Sample {
  readonly step: number
  readonly row: number
  readonly sample: number
  readonly prompt: string
  readonly completion: string
  readonly rewards: Readonly<Record<string, number | null>>
  readonly reward: number | null
  readonly advantage: number
  readonly finishReason: "stop" | "length"
}

/** Receives what a run has to say. Several trackers may listen at once. */
export class Tracker extends Context.Service<
  Tracker,
  {
    readonly metrics: (step: number, metrics: Metrics) => Effect.Effect<void, TrackerError>
    /** Wall-clock facts of the step: seconds by phase, `tokens_per_second`. */
    readonly timings: (step: number, timings: Metrics) => Effect.Effect<void, TrackerError>
    readonly samples: (step: number, samples: ReadonlyArray<Sample>) => Effect.Effect<void, TrackerError>
    /** Forgets everything after `step`: a resumed run writes those steps again. */
    readonly rewind: (step: number) => Effect.Effect<void, TrackerError>
  }
>()("@rlpt/core/Tracker") {}
