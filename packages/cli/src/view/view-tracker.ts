import { Clock, Effect, Ref } from "effect"
import type { Metrics, Sample, Tracker } from "@rlpt/core"
import { dim, type ScreenService } from "./screen.ts"
import { fit, headline, sampleLine, stepLine } from "./step-line.ts"

interface State {
  /** Metrics of the step in progress. */
  readonly metrics: Metrics
  readonly sample: Sample | undefined
  readonly history: ReadonlyArray<number>
  /** When the last step ended, in milliseconds. */
  readonly lastEnd: number
  /** Exponential mean over the steps so far; none before the second step, since the first compiles shaders. */
  readonly secondsPerStep: number | undefined
}

/** Weight of the newest step in the mean that time left is foretold from. */
const newestWeight = 0.3

/**
 * Shows a run as it goes. On a terminal one line tells the step at hand, and steps with a sample or an evaluation stay
 * above it; elsewhere each step is a line.
 */
export const viewTracker = Effect.fnUntraced(function* (screen: ScreenService, maxSteps: number) {
  const state = yield* Ref.make<State>({
    metrics: {},
    sample: undefined,
    history: [],
    lastEnd: yield* Clock.currentTimeMillis,
    secondsPerStep: undefined,
  })

  const endStep = Effect.fnUntraced(function* (step: number, timings: Metrics) {
    const now = yield* Clock.currentTimeMillis
    const { history, lastEnd, metrics, sample, secondsPerStep } = yield* Ref.get(state)
    const seconds = (now - lastEnd) / 1000
    const mean = secondsPerStep === undefined ? seconds : secondsPerStep + newestWeight * (seconds - secondsPerStep)
    // The history holds this step already; before the second one there is nothing to foretell from.
    const secondsLeft = history.length < 2 ? undefined : mean * (maxSteps - step)
    const figures = { step, maxSteps, metrics, timings, history, secondsLeft }
    const columns = screen.columns()
    if (columns === undefined) {
      yield* screen.print(stepLine(figures, true))
    } else {
      const line = fit(stepLine(figures, false), columns - 1)
      const stays = sample !== undefined || "eval/accuracy" in metrics || step === maxSteps
      if (stays) {
        yield* screen.live("")
        yield* screen.print(line)
        if (sample !== undefined) yield* screen.print(dim(screen, sampleLine(sample, columns - 1)))
      } else {
        yield* screen.live(line)
      }
    }
    yield* Ref.set(state, {
      metrics: {},
      sample: undefined,
      history,
      lastEnd: now,
      secondsPerStep: history.length < 2 ? undefined : mean,
    })
  })

  const tracker: Tracker["Service"] = {
    metrics: Effect.fnUntraced(function* (step, metrics) {
      const value = headline(metrics)
      yield* Ref.update(state, (before) => ({
        ...before,
        metrics: { ...before.metrics, ...metrics },
        history: value === undefined ? before.history : [...before.history, value],
      }))
      // Before the first step there is only the evaluation of the base, and no timings will follow.
      if (step > 0) return
      const columns = screen.columns()
      yield* screen.print(
        fit(stepLine({ step, maxSteps, metrics, timings: {}, history: [] }, true), columns ?? Infinity),
      )
      yield* Ref.update(state, (before) => ({ ...before, metrics: {} }))
    }),
    timings: endStep,
    // Every call shows another position of the batch: its first rows are not special.
    samples: (step, samples) =>
      Ref.update(state, (before) => ({ ...before, sample: samples[step % Math.max(1, samples.length)] })),
    rewind: (step) => (step > 0 ? screen.print(`going on after step ${step}`) : Effect.void),
  }
  return tracker
})
