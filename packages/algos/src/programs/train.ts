import {
  type LabelledTrajectory,
  type LossReport,
  type Metrics,
  Reward,
  RolloutEngine,
  type SamplingParams,
  Task,
  Tracker,
} from "@rlpt/core"
import { Effect } from "effect"
import { TrainError } from "../errors.ts"
import { SAMPLING_DIFFERENCE } from "../loss/policy.ts"
import type { TrainOptions } from "../options.ts"
import { rolloutSeed, rowsOfStep } from "../order.ts"
import { learningRateFactor } from "../schedule.ts"
import { mean } from "../statistics.ts"
import type { Algorithm, Learner } from "./algorithm.ts"
import { chunks, mergeReports } from "./batches.ts"
import type { TrainerState } from "./checkpoint.ts"
import { evalSplit, evaluate } from "./evaluate.ts"
import { grpo } from "./grpo.ts"
import { runSteps } from "./loop.ts"
import { finite, rolloutMetrics, sampleLog } from "./metrics.ts"
import { ppo } from "./ppo.ts"
import { generate, readPrompts, score, stopTokens } from "./rollouts.ts"
import { makeStopwatch } from "./stopwatch.ts"
import { countRefused, trajectoryBatch, type Update, updateModel } from "./update.ts"

/**
 * Trains the policy by `options.algorithm` up to `options.maxSteps`, going on from the newest checkpoint of the store
 * if there is one, and returns the state it ended in. Evaluates, tracks, saves and resumes as {@link runSteps} says.
 */
export const train = Effect.fn("train")(function* (options: TrainOptions) {
  const algorithm: Algorithm = yield* { grpo, ppo }[options.algorithm](options)
  return yield* trainWith(algorithm, options)
})

/** {@link train} with an algorithm of one's own making. */
export const trainWith = Effect.fn("trainWith")(function* (algorithm: Algorithm, options: TrainOptions) {
  const engine = yield* RolloutEngine
  const sampling = yield* samplingParams(options)
  yield* checkTask(options)
  const { critic, policy } = algorithm.learners
  return yield* runSteps(options, {
    models: { policy: policy.engine, ...(critic && { critic: critic.engine }) },
    start: ({ policyVersion }) => engine.syncWeights(policyVersion),
    step: (state) => trainStep(algorithm, options, sampling, state),
    evaluate: Effect.map(evaluate(options), ({ metrics }) => metrics),
  })
})

const samplingParams = Effect.fnUntraced(function* (options: TrainOptions) {
  const { maxCompletionLength, minP, temperature, topK, topP } = options
  return { temperature, topK, topP, minP, maxCompletionLength, stopTokens: yield* stopTokens(options.stop) }
})

const checkTask = Effect.fnUntraced(function* ({ evalSteps, promptsPerStep }: TrainOptions) {
  const { name, train } = yield* Task
  if (train.size < promptsPerStep) {
    return yield* new TrainError({
      message: `Task "${name}" has ${train.size} rows to train on, fewer than promptsPerStep ${promptsPerStep}.`,
    })
  }
  if (evalSteps > 0) yield* evalSplit
})

/** One step: rows → prompts → trajectories → scores → advantages → updates → weights for the next step. */
const trainStep = Effect.fn("trainStep")(function* (
  algorithm: Algorithm,
  options: TrainOptions,
  sampling: SamplingParams,
  state: TrainerState,
) {
  const { maxCompletionLength, numGenerations, promptsPerStep, seed } = options
  const task = yield* Task
  const engine = yield* RolloutEngine
  const step = state.step + 1
  const stopwatch = makeStopwatch()

  const rows = rowsOfStep({ seed, size: task.train.size, rowsPerStep: promptsPerStep }, step)
  const prompts = yield* readPrompts(task.train, rows, options)
  const request = { prompts, numGenerations, sampling, seed: rolloutSeed(seed, step) }
  const trajectories = yield* stopwatch.time("rollout_time", generate(request))
  const scored = yield* stopwatch.time("reward_time", score(trajectories, maxCompletionLength))
  const labelled = yield* stopwatch.time("label_time", algorithm.label(scored))
  const updated = yield* stopwatch.time("update_time", update(algorithm, options, labelled.trajectories, state))
  yield* stopwatch.time("sync_time", engine.syncWeights(updated.policyVersion))

  const { logCompletionsSteps } = options
  if (logCompletionsSteps > 0 && step % logCompletionsSteps === 0) {
    yield* (yield* Tracker).samples(step, sampleLog(step, labelled.trajectories))
  }
  const tokens = scored.reduce((sum, t) => sum + t.prompt.tokens.length + t.completionTokens.length, 0)
  const numTokens = state.numTokens + tokens
  return {
    state: { step, policyVersion: updated.policyVersion, numTokens, refusedUpdates: updated.refusedUpdates },
    metrics: {
      ...rolloutMetrics(scored, (yield* Reward).names),
      ...labelled.metrics,
      ...updated.metrics,
      num_tokens: numTokens,
    },
    timings: stopwatch.timings(tokens),
  }
})

/** All updates of a step: `numIterations` passes over `stepsPerGeneration` mini-batches, for every learner. */
const update = Effect.fn("update")(function* (
  { isTrained, learners }: Algorithm,
  options: TrainOptions,
  trajectories: ReadonlyArray<LabelledTrajectory>,
  state: TrainerState,
) {
  const { maxGradNorm, microBatchSize, numIterations, stepsPerGeneration } = options
  const step = state.step + 1
  const factor = learningRateFactor(options, step)
  const miniBatches = chunks(trajectories, trajectories.length / stepsPerGeneration)
  const all = [learners.policy, ...(learners.critic ? [learners.critic] : [])]
  const updates = new Map<Learner, Array<Update>>(all.map((learner) => [learner, []]))
  let { policyVersion, refusedUpdates } = state

  for (let iteration = 0; iteration < numIterations; iteration++) {
    for (const miniBatch of miniBatches) {
      for (const learner of all) {
        const batch = trajectoryBatch(miniBatch, isTrained, learner.loss, options)
        if (batch === undefined) continue
        const learningRate = factor * learner.peakLearningRate
        const done = yield* updateModel(learner.engine, learner.loss, batch, microBatchSize, {
          learningRate,
          maxGradNorm,
        })
        refusedUpdates = yield* countRefused(refusedUpdates, done.optimizer, step)
        const sampledByThese = miniBatch.every((trajectory) => trajectory.policyVersion === policyVersion)
        updates.get(learner)!.push(sampledByThese ? done : withoutSamplingDifference(done))
        if (learner === learners.policy && done.optimizer.applied) policyVersion++
      }
    }
  }
  const metrics = all.flatMap((learner) => Object.entries(updateMetrics(learner, updates.get(learner)!, factor)))
  const skipped = [...updates.values()].flat().filter(({ optimizer }) => !optimizer.applied).length
  return { policyVersion, refusedUpdates, metrics: { ...Object.fromEntries(metrics), skipped_updates: skipped } }
})

/** Once the weights have moved, the distance from the sampler says nothing about the sampler's exactness. */
const withoutSamplingDifference = ({ optimizer, report }: Update): Update => {
  const { [SAMPLING_DIFFERENCE]: _, ...metrics } = report.metrics as Record<string, LossReport["metrics"][string]>
  return { optimizer, report: { ...report, metrics } }
}

/** Metrics of a learner's updates within one step; of no update, its learning rate alone. */
const updateMetrics = (learner: Learner, updates: ReadonlyArray<Update>, factor: number): Metrics => {
  const { gradNorm, learningRate, loss } = learner.metricNames
  const { metrics } = mergeReports(updates.map(({ report }) => report))
  return finite({
    [loss]: mean(updates.map(({ report }) => report.loss)),
    [gradNorm]: mean(updates.filter(({ optimizer }) => optimizer.applied).map(({ optimizer }) => optimizer.gradNorm)),
    [learningRate]: factor * learner.peakLearningRate,
    ...Object.fromEntries(Object.entries(metrics).map(([name, { value }]) => [name, value])),
  })
}
