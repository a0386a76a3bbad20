/** What two engines make of the same tokens: where their greedy choices part, and whether that is a tie. */

/** log-probabilities of the next token at one place, by token id. */
export type NextToken = Float64Array

/** A place where the likeliest token is another to each engine. */
export interface Parting {
  /** How many tokens were generated before it. */
  readonly at: number
  /** The likeliest token: to us, and to the other engine. */
  readonly ours: number
  readonly theirs: number
  /** By how much (nats) each engine finds its own choice likelier than the other's. */
  readonly ourLead: number
  readonly theirLead: number
}

export interface Comparison {
  readonly places: number
  readonly partings: ReadonlyArray<Parting>
  /**
   * Largest difference (nats) between the engines in how much likelier the likeliest token is than the runner-up, over
   * the places where they agree on the likeliest: what a lead must exceed to mean anything.
   */
  readonly noise: number
}

/** Compares both engines place by place along the same tokens. */
export const compare = (ours: ReadonlyArray<NextToken>, theirs: ReadonlyArray<NextToken>): Comparison => {
  const partings: Parting[] = []
  let noise = 0
  for (const [at, our] of ours.entries()) {
    const their = theirs[at]!
    const [first, second] = topTwo(our)
    const [theirFirst] = topTwo(their)
    if (first === theirFirst) {
      noise = Math.max(noise, Math.abs(lead(our, first, second) - lead(their, first, second)))
    } else {
      const ourLead = lead(our, first, theirFirst)
      partings.push({ at, ours: first, theirs: theirFirst, ourLead, theirLead: lead(their, theirFirst, first) })
    }
  }
  return { places: ours.length, partings, noise }
}

/** A parting is a tie if no engine's lead is more than what they differ by where they agree. */
export const isTie = ({ ourLead, theirLead }: Parting, noise: number): boolean => Math.max(ourLead, theirLead) <= noise

const lead = (logProbs: NextToken, token: number, other: number): number => logProbs[token]! - logProbs[other]!

const topTwo = (logProbs: NextToken): readonly [first: number, second: number] => {
  let [first, second] = logProbs[0]! >= logProbs[1]! ? [0, 1] : [1, 0]
  for (let token = 2; token < logProbs.length; token++) {
    if (logProbs[token]! > logProbs[first]!) [first, second] = [token, first]
    else if (logProbs[token]! > logProbs[second]!) second = token
  }
  return [first, second]
}
