import type { LrSchedulerType } from "./options.ts"

export interface Schedule {
  readonly lrSchedulerType: LrSchedulerType
  readonly maxSteps: number
  readonly warmupSteps: number
  readonly warmupRatio: number
}

/**
 * Factor on the peak learning rate during `step` (1 … maxSteps): the schedules of transformers' `get_scheduler` at its
 * counter `step − 1`, except that warm-up reaches its first rung at step 1, where transformers starts with a learning
 * rate of 0 and so an update that changes nothing.
 */
export const learningRateFactor = (schedule: Schedule, step: number): number => {
  const { lrSchedulerType, maxSteps, warmupRatio } = schedule
  const warmup = schedule.warmupSteps || Math.ceil(warmupRatio * maxSteps)
  if (step <= warmup) return step / (warmup + 1)
  const progress = (step - 1 - warmup) / Math.max(1, maxSteps - warmup)
  switch (lrSchedulerType) {
    case "constant":
      return 1
    case "linear":
      return Math.max(0, 1 - progress)
    case "cosine":
      return 0.5 * (1 + Math.cos(Math.PI * Math.min(1, progress)))
  }
}
