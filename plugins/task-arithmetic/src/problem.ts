import { hash } from "./hash.ts"

/** A sum or a difference of two numbers from 0 to 99; never negative. */
export interface Problem {
  readonly a: number
  readonly b: number
  readonly operator: "+" | "-"
}

export const promptOf = ({ a, b, operator }: Problem): string => `${a}${operator}${b}=`

export const answerOf = ({ a, b, operator }: Problem): number => (operator === "+" ? a + b : a - b)

const numbers = Array.from({ length: 100 }, (_, n) => n)
const pairs = numbers.flatMap((a) => numbers.map((b) => ({ a, b })))

/** All 10,000 sums and all 5,050 differences. */
export const problems: ReadonlyArray<Problem> = [
  ...pairs.map(({ a, b }): Problem => ({ a, b, operator: "+" })),
  ...pairs.filter(({ a, b }) => a >= b).map(({ a, b }): Problem => ({ a, b, operator: "-" })),
]

/** Position in an order of all problems that means nothing; a sum has the place of its mirror image. */
const place = ({ a, b, operator }: Problem): number =>
  operator === "+" ? hash(1, Math.min(a, b), Math.max(a, b)) : hash(2, a, b)

/**
 * Whether the problem is kept from training: about one in ten, the same ones for every seed. `17+25` is held out together
 * with `25+17`, so that neither gives the other away.
 */
export const isHeldOut = (problem: Problem): boolean => place(problem) < 0.1 * 2 ** 32

/** Problems to train on. */
export const trainProblems: ReadonlyArray<Problem> = problems.filter((problem) => !isHeldOut(problem))

/** 256 held-out problems, each once: those that come first in the order by {@link hash}. */
export const evalProblems: ReadonlyArray<Problem> = problems
  .filter(isHeldOut)
  .map((problem) => ({ problem, order: hash(3, problem.a, problem.b, problem.operator === "+" ? 1 : 2) }))
  .toSorted((x, y) => x.order - y.order)
  .slice(0, 256)
  .map(({ problem }) => problem)
