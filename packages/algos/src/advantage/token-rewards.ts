/**
 * Rewards of PPO per token: −β·KL of each token, and the score of the whole completion at its last token.
 *
 * @param score reward of the completion, penalties included
 * @param kl estimates per token (nats); absent without a reference
 */
export const tokenRewards = (
  length: number,
  score: number,
  beta: number,
  kl: ArrayLike<number> | undefined,
): Float64Array => {
  const rewards = Float64Array.from({ length }, (_, t) => (kl === undefined ? 0 : -beta * kl[t]!))
  if (length > 0) rewards[length - 1]! += score
  return rewards
}
