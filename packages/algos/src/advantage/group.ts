import type { ScaleRewards } from "../options.ts"
import { deviation, mean } from "../statistics.ts"

/** Added to a deviation before dividing by it, as in TRL (verl adds 1e-6). */
const STD_EPSILON = 1e-4

export interface GroupAdvantages {
  /** One advantage per reward. */
  readonly advantages: Float64Array
  /** Share of groups whose completions (two or more with a reward) all have the same reward: they teach nothing. */
  readonly zeroStdFraction: number
}

/**
 * Advantages of GRPO (Shao et al. 2024): a reward less the mean of its group, divided by a deviation (Bessel-corrected)
 * as `scale` says. `rewards` holds the groups one after the other, `groupSize` each.
 *
 * A reward of `null` counts in no statistic and gets advantage 0. Advantages of a group without variance are exactly 0:
 * computed, the mean's rounding error over a small deviation would be noise to learn from.
 */
export const groupAdvantages = (
  rewards: ReadonlyArray<number | null>,
  groupSize: number,
  scale: ScaleRewards,
): GroupAdvantages => {
  const advantages = new Float64Array(rewards.length)
  const batchDeviation = deviation(rewards.filter((reward) => reward !== null))
  let zeroStd = 0
  for (let start = 0; start < rewards.length; start += groupSize) {
    const group = rewards.slice(start, start + groupSize)
    const scored = group.filter((reward) => reward !== null)
    if (scored.length < 2) continue
    if (scored.every((reward) => reward === scored[0])) {
      zeroStd++
      continue
    }
    const baseline = mean(scored)
    const divisor = scale === "none" ? 1 : (scale === "group" ? deviation(scored) : batchDeviation) + STD_EPSILON
    group.forEach((reward, sample) => {
      if (reward !== null) advantages[start + sample] = (reward - baseline) / divisor
    })
  }
  return { advantages, zeroStdFraction: zeroStd / Math.max(1, rewards.length / groupSize) }
}
