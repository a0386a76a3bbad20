import type { Metrics } from "@rlpt/core"
import { Duration, Effect } from "effect"

/** Measures the phases of one step. */
export interface Stopwatch {
  /** Runs `effect` and notes its seconds under `phase`. */
  readonly time: <A, E, R>(phase: string, effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Seconds by phase, those of all together (`step_time`), and `tokens_per_second` for a step of `tokens`. */
  readonly timings: (tokens: number) => Metrics
}

export const makeStopwatch = (): Stopwatch => {
  const seconds: Record<string, number> = {}
  return {
    time: (phase, effect) =>
      Effect.map(Effect.timed(effect), ([duration, result]) => {
        seconds[phase] = Duration.toSeconds(duration)
        return result
      }),
    timings: (tokens) => {
      const total = Object.values(seconds).reduce((sum, phase) => sum + phase, 0)
      return { ...seconds, step_time: total, ...(total > 0 && { tokens_per_second: tokens / total }) }
    },
  }
}
