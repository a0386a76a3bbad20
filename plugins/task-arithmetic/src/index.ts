import { defineTask, TaskError, type Split } from "@rlpt/core"
import { Effect, Schema } from "effect"
import { carelessAnswer } from "./careless.ts"
import { hash } from "./hash.ts"
import { answerOf, evalProblems, promptOf, trainProblems, type Problem } from "./problem.ts"

/** Rows of the training split. */
const trainSize = 65_536

export const ArithmeticOptions = Schema.Struct({
  /** Completions to imitate: right ones, or those of a careless pupil. Reinforcement learning reads neither. */
  style: Schema.Literals(["verified", "careless"]).pipe(
    Schema.withDecodingDefaultKey(Effect.succeed("verified" as const)),
  ),
  /** Chooses the training rows and the slips. Which problems are held out does not depend on it. */
  seed: Schema.Int.pipe(Schema.withDecodingDefaultKey(Effect.succeed(0))),
})

const split = (size: number, problemAt: (index: number) => Problem, completionOf: CompletionOf): Split => ({
  size,
  row: (index) => {
    if (!Number.isInteger(index) || index < 0 || index >= size) {
      return Effect.fail(new TaskError({ message: `there is no row ${index}: there are ${size}` }))
    }
    const problem = problemAt(index)
    return Effect.succeed({
      prompt: promptOf(problem),
      completion: completionOf(problem, index),
      columns: { ...problem, answer: String(answerOf(problem)) },
    })
  },
})

type CompletionOf = (problem: Problem, index: number) => string

/** Sums and differences of one- and two-digit numbers: `17+25=` with the columns `answer`, `a`, `b` and `operator`. */
export default defineTask({
  name: "arithmetic",
  options: ArithmeticOptions,
  make: ({ style, seed }) => {
    const completionOf: CompletionOf =
      style === "verified"
        ? (problem) => String(answerOf(problem))
        : (problem, index) => carelessAnswer(problem, seed, index)
    return {
      name: "arithmetic",
      train: split(trainSize, (index) => trainProblems[hash(7, seed, index) % trainProblems.length]!, completionOf),
      eval: split(evalProblems.length, (index) => evalProblems[index]!, completionOf),
    }
  },
})
