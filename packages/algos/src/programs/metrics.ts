import type { Metrics, Sample, ScoredTrajectory, LabelledTrajectory } from "@rlpt/core"
import { deviation, mean } from "../statistics.ts"

/** Leaves out what is not a number, such as the deviation of a single reward: metrics go into JSON. */
export const finite = (metrics: Metrics): Metrics =>
  Object.fromEntries(Object.entries(metrics).filter(([, value]) => Number.isFinite(value)))

/** Metrics of what was sampled and how it was rewarded, by TRL's names. Rewards of `null` are left out of each. */
export const rolloutMetrics = (
  trajectories: ReadonlyArray<ScoredTrajectory>,
  rewardNames: ReadonlyArray<string>,
): Metrics => {
  const numbers = (of: (trajectory: ScoredTrajectory) => number | null | undefined) =>
    trajectories.map(of).filter((value) => typeof value === "number")
  const rewards = numbers(({ reward }) => reward)
  const lengths = trajectories.map(({ completionTokens }) => completionTokens.length)
  const terminated = trajectories.filter(({ finishReason }) => finishReason === "stop")
  const metrics: Record<string, number> = {
    reward: mean(rewards),
    reward_std: deviation(rewards),
    "completions/mean_length": mean(lengths),
    "completions/min_length": Math.min(...lengths),
    "completions/max_length": Math.max(...lengths),
    "completions/clipped_ratio": 1 - terminated.length / trajectories.length,
    "completions/mean_terminated_length": mean(terminated.map(({ completionTokens }) => completionTokens.length)),
  }
  for (const name of rewardNames) {
    const values = numbers(({ rewards }) => rewards[name])
    metrics[`rewards/${name}/mean`] = mean(values)
    metrics[`rewards/${name}/std`] = deviation(values)
  }
  return finite(metrics)
}

/** The lines of the sample log for a step. */
export const sampleLog = (step: number, trajectories: ReadonlyArray<LabelledTrajectory>): ReadonlyArray<Sample> =>
  trajectories.map(({ advantages, completion, finishReason, prompt, reward, rewards, sample }) => ({
    step,
    row: prompt.row,
    sample,
    prompt: prompt.text,
    completion,
    rewards,
    reward,
    advantage: advantages.length === 0 ? 0 : mean(advantages),
    finishReason,
  }))
