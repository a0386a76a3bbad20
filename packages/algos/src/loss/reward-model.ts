import type { LossProgram } from "@rlpt/core"

/** What two completions of one prompt are worth to the model that learns to judge them. */
export interface Pair {
  readonly chosen: number
  readonly rejected: number
  /** By how much the chosen one should win at least. */
  readonly margin: number
}

/** The loss of pairs, and its derivative by each reward. */
export interface PairLoss {
  readonly loss: number
  readonly gradients: ReadonlyArray<{ readonly chosen: number; readonly rejected: number }>
}

/**
 * The mean over pairs of −log σ(chosen − rejected − margin) (Bradley & Terry 1952; Ouyang et al. 2022; margins: Touvron et
 * al. 2023), plus `coefficient` times that of (chosen + rejected)², which keeps rewards around zero (Eisenstein et al.
 * 2023), as TRL's RewardTrainer has them.
 */
export const pairLoss = (pairs: ReadonlyArray<Pair>, coefficient: number): PairLoss => {
  const share = 1 / pairs.length
  let loss = 0
  const gradients = pairs.map(({ chosen, margin, rejected }) => {
    const lead = chosen - rejected - margin
    const sum = chosen + rejected
    // log(1 + exp(−lead)), without an overflow.
    loss += share * (Math.max(-lead, 0) + Math.log1p(Math.exp(-Math.abs(lead))) + coefficient * sum ** 2)
    const pull = share / (1 + Math.exp(lead))
    const centre = 2 * share * coefficient * sum
    return { chosen: centre - pull, rejected: centre + pull }
  })
  return { loss, gradients }
}

/**
 * Hands a model a gradient that was worked out from its rewards: the loss is linear in them, with the field `slopes` as
 * its derivative.
 */
export const rewardSlopes: LossProgram = {
  name: "reward",
  outputs: ["values"],
  fields: ["slopes"],
  evaluate: ({ slopes, values }) => ({ perToken: values!.mul(slopes!), metrics: {} }),
}
