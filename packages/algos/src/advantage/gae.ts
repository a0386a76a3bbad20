export interface GaeOptions {
  /** Discount of later rewards. */
  readonly gamma: number
  /** Weight of longer estimates: 0 is one-step temporal difference, 1 the whole return. */
  readonly lam: number
}

export interface Gae {
  /** Not whitened. */
  readonly advantages: Float64Array
  /** Targets of the critic: advantages + values. */
  readonly returns: Float64Array
}

/**
 * Generalised advantage estimation (Schulman et al. 2016) over the tokens of one completion:
 * δₜ = rₜ + γ·Vₜ₊₁ − Vₜ and Aₜ = δₜ + γλ·Aₜ₊₁. Nothing follows the last token, cut or not, as in TRL and verl.
 *
 * @param rewards one per completion token
 * @param values the critic's estimate before each completion token
 */
export const generalizedAdvantages = (
  rewards: ArrayLike<number>,
  values: ArrayLike<number>,
  { gamma, lam }: GaeOptions,
): Gae => {
  const advantages = new Float64Array(rewards.length)
  const returns = new Float64Array(rewards.length)
  let nextValue = 0
  let nextAdvantage = 0
  for (let t = rewards.length - 1; t >= 0; t--) {
    const value = values[t]!
    nextAdvantage = rewards[t]! + gamma * nextValue - value + gamma * lam * nextAdvantage
    nextValue = value
    advantages[t] = nextAdvantage
    returns[t] = nextAdvantage + value
  }
  return { advantages, returns }
}
