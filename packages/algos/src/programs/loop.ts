import { type Metrics, Tracker } from "@rlpt/core"
import { Effect, Fiber, Ref } from "effect"
import { initialState, restoreNewest, saveCheckpoint, type TrainedModels, type TrainerState } from "./checkpoint.ts"

export interface LoopOptions {
  readonly maxSteps: number
  readonly evalSteps: number
  readonly saveSteps: number
  readonly saveTotalLimit: number
}

/** What one step did. */
export interface StepOutcome {
  readonly state: TrainerState
  readonly metrics: Metrics
  readonly timings: Metrics
}

/** What a training program puts into the loop. */
export interface Trainee<E, R> {
  readonly models: TrainedModels
  /** Called once, when the models have the weights of `state`. */
  readonly start: (state: TrainerState) => Effect.Effect<void, E, R>
  /** One step on top of `state`. */
  readonly step: (state: TrainerState) => Effect.Effect<StepOutcome, E, R>
  readonly evaluate: Effect.Effect<Metrics, E, R>
}

/**
 * Runs the steps that are left: resumes from the newest sound checkpoint, evaluates, trains, reports and saves.
 *
 * An interruption (Ctrl-C) waits for the running step, saves and only then takes effect. A failure leaves the last
 * checkpoint as it is: the models may be half-way through a step.
 */
export const runSteps = Effect.fn("runSteps")(function* <E, R>(options: LoopOptions, trainee: Trainee<E, R>) {
  const tracker = yield* Tracker
  const restored = yield* restoreNewest(trainee.models)
  const current = yield* Ref.make(restored ?? initialState)
  const saved = yield* Ref.make(restored?.step ?? 0)
  // Of a run that died before its first checkpoint the log is all there is; −1 forgets its evaluation of the base too.
  yield* tracker.rewind(restored?.step ?? -1)
  yield* trainee.start(yield* Ref.get(current))
  if (restored === undefined && options.evalSteps > 0) yield* tracker.metrics(0, yield* trainee.evaluate)

  const save = Effect.gen(function* () {
    const state = yield* Ref.get(current)
    if (state.step === (yield* Ref.get(saved))) return
    yield* saveCheckpoint(state, trainee.models, options.saveTotalLimit)
    yield* Ref.set(saved, state.step)
  })

  const nextStep = Effect.gen(function* () {
    const { metrics, state, timings } = yield* trainee.step(yield* Ref.get(current))
    const evaluated = isDue(options.evalSteps, state.step, options.maxSteps) ? yield* trainee.evaluate : {}
    yield* tracker.metrics(state.step, { ...metrics, ...evaluated })
    yield* tracker.timings(state.step, timings)
    yield* Ref.set(current, state)
    if (isDue(options.saveSteps, state.step, options.maxSteps)) yield* save
  })

  yield* Effect.gen(function* () {
    while ((yield* Ref.get(current)).step < options.maxSteps) yield* toItsEnd(nextStep)
  }).pipe(Effect.onInterrupt(() => save))
  yield* save
  return yield* Ref.get(current)
})

/** Every `period` steps (0: never) and after the last one. */
const isDue = (period: number, step: number, maxSteps: number): boolean =>
  period > 0 && (step % period === 0 || step === maxSteps)

/**
 * Shields `effect` from interruption from outside. It runs in a fiber of its own, so that inside it interruption works
 * as ever: in an uninterruptible region one failing server of several would have to wait for the others for ever.
 */
const toItsEnd = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.uninterruptible(Effect.flatMap(Effect.forkChild(effect), Fiber.join))
