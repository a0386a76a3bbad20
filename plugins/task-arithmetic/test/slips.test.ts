import { expect, it } from "vitest"
import { forgetCarry, oneDigitOff, onesTooHigh, swapDigits, takeWrongOperator } from "../src/slips.ts"
import type { Problem } from "../src/problem.ts"

const sum: Problem = { a: 17, b: 25, operator: "+" }
const difference: Problem = { a: 42, b: 17, operator: "-" }

it("slips are the ones that pupils make", () => {
  expect(forgetCarry(sum, 0)).toBe("32")
  expect(forgetCarry(difference, 0)).toBe("35")
  expect(onesTooHigh({ a: 12, b: 6, operator: "+" }, 0)).toBe("19")
  expect(onesTooHigh({ a: 12, b: 7, operator: "+" }, 0)).toBe("10")
  expect(takeWrongOperator(sum, 0)).toBe("8")
  expect(takeWrongOperator(difference, 0)).toBe("59")
  expect(swapDigits(sum, 0)).toBe("24")
  expect(swapDigits({ a: 99, b: 21, operator: "+" }, 0)).toBe("102")
  expect(swapDigits({ a: 3, b: 4, operator: "+" }, 0)).toBe("7")
})

it("one digit off is a number as long as the answer, one digit apart by one, and never starts with a new zero", () => {
  for (const problem of [
    sum,
    difference,
    { a: 5, b: 5, operator: "-" },
    { a: 99, b: 0, operator: "+" },
    { a: 60, b: 40, operator: "+" },
  ] as const) {
    const answer = String(problem.operator === "+" ? problem.a + problem.b : problem.a - problem.b)
    const seen = new Set<string>()
    for (let draw = 0; draw < 2048; draw++) {
      const slip = oneDigitOff(problem, draw)
      const apart = [...answer].map((digit, index) => Math.abs(Number(digit) - Number(slip[index])))
      expect(slip).toHaveLength(answer.length)
      expect(apart.toSorted((x, y) => x - y)).toEqual([...Array<number>(answer.length - 1).fill(0), 1])
      if (answer.length > 1) expect(slip[0]).not.toBe("0")
      seen.add(slip)
    }
    expect(seen.size).toBeGreaterThanOrEqual(answer.length)
  }
})
