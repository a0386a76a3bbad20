import { hash, uniform } from "./hash.ts"
import { answerOf, type Problem } from "./problem.ts"
import { forgetCarry, onesTooHigh, oneDigitOff, swapDigits, takeWrongOperator, type Slip } from "./slips.ts"

/** What a careless pupil does, with probabilities that add up to 1. */
type Habits = ReadonlyArray<readonly [probability: number, slip: Slip | "right"]>

/** With a carry or a borrow, the pupil forgets it more often than not. */
const withCarry: Habits = [
  [0.3, "right"],
  [0.5, forgetCarry],
  [0.1, oneDigitOff],
  [0.06, takeWrongOperator],
  [0.04, swapDigits],
]

/** Some facts of one-digit arithmetic were learned wrong: "7 + 2 is 10". */
const misremembered: Habits = [
  [0.3, "right"],
  [0.5, onesTooHigh],
  [0.1, oneDigitOff],
  [0.06, takeWrongOperator],
  [0.04, swapDigits],
]

/** Where nothing leads astray the pupil is merely inattentive: the right answer is the likeliest. */
const clean: Habits = [
  [0.4, "right"],
  [0.3, oneDigitOff],
  [0.2, takeWrongOperator],
  [0.1, swapDigits],
]

/** Share of the one-digit facts without a carry that the pupil misremembers. */
const misrememberedShare = 0.47

export const hasCarry = ({ a, b, operator }: Problem): boolean =>
  operator === "+" ? (a % 10) + (b % 10) > 9 : a % 10 < b % 10

/**
 * Whether the pupil knows the ones digits of this problem wrong. It hangs on those digits alone, so that the habit can
 * be picked up from examples and shows in problems never seen: the imitator errs on held-out problems just as often.
 */
const isMisremembered = ({ a, b, operator }: Problem): boolean =>
  uniform(4, a % 10, b % 10, operator === "+" ? 1 : 2) < misrememberedShare

export const habitsFor = (problem: Problem): Habits => {
  if (hasCarry(problem)) return withCarry
  return isMisremembered(problem) ? misremembered : clean
}

/** The habit at `point`, in [0, 1), of the line on which each takes up as much as it is likely. */
const habitAt = (habits: Habits, point: number): Slip | "right" => {
  let end = 0
  for (const [probability, habit] of habits) {
    end += probability
    if (point < end) return habit
  }
  return "right"
}

/**
 * The answer as a careless pupil writes it: right about one time in three. The likeliest answer is right for little more
 * than a quarter of the problems, so that always taking it does no better than the pupil's own odds.
 * A function of the problem, `seed` and `index` alone.
 */
export const carelessAnswer = (problem: Problem, seed: number, index: number): string => {
  const right = String(answerOf(problem))
  const habit = habitAt(habitsFor(problem), uniform(5, seed, index))
  if (habit === "right") return right
  const draw = hash(6, seed, index)
  const slipped = habit(problem, draw)
  // Some slips do nothing to some problems: 5 + 0 with the wrong operator, the digits of 44 swapped.
  return slipped === right ? oneDigitOff(problem, draw) : slipped
}
