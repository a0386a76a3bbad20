import { answerOf, type Problem } from "./problem.ts"

/** A way to get a problem wrong; `draw` is a 32-bit random number for slips that have a choice. */
export type Slip = (problem: Problem, draw: number) => string

/** 17+25=32: the ten is not carried; 42-17=35: the ten is not borrowed. */
export const forgetCarry: Slip = (problem) => String(answerOf(problem) + (problem.operator === "+" ? -10 : 10))

/** 12+6=19: the ones digit is one too high (9 becomes 0), the others are right. */
export const onesTooHigh: Slip = (problem) => {
  const digits = String(answerOf(problem))
  return digits.slice(0, -1) + ((Number(digits.at(-1)) + 1) % 10)
}

/** One digit, whichever, is one higher or lower. A leading digit stays above zero, and digits stay within 0 to 9. */
export const oneDigitOff: Slip = (problem, draw) => {
  const digits = [...String(answerOf(problem))].map(Number)
  const at = draw % digits.length
  const lowest = at === 0 && digits.length > 1 ? 1 : 0
  const up = (draw >>> 8) % 2 === 0 ? digits[at] !== 9 : digits[at] === lowest
  return digits.map((digit, index) => (index === at ? digit + (up ? 1 : -1) : digit)).join("")
}

/** 17+25=8, 42-17=59. */
export const takeWrongOperator: Slip = ({ a, b, operator }) => String(operator === "+" ? Math.abs(a - b) : a + b)

/** 17+25=24: the last two digits change places. */
export const swapDigits: Slip = (problem) => {
  const digits = String(answerOf(problem))
  return digits.slice(0, -2) + [...digits].slice(-2).toReversed().join("")
}
