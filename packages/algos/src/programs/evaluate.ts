import { Reward, Task } from "@rlpt/core"
import { Effect } from "effect"
import { TrainError } from "../errors.ts"
import { mean } from "../statistics.ts"
import { finite } from "./metrics.ts"
import type { ChatTemplateOptions } from "./tokenize.ts"
import { generate, readPrompts, score, stopTokens } from "./rollouts.ts"

export interface EvaluateOptions extends ChatTemplateOptions {
  /** Rows of the eval split to use, from its first one; fewer if it is smaller. */
  readonly evalSize: number
  readonly maxCompletionLength: number
  readonly stop: ReadonlyArray<string>
}

/** The eval split of the task, or an error that says how to do without. */
export const evalSplit = Effect.gen(function* () {
  const task = yield* Task
  if (task.eval !== undefined && task.eval.size > 0) return task.eval
  return yield* new TrainError({ message: `Task "${task.name}" has no eval split to evaluate on. Set evalSteps to 0.` })
})

/**
 * Answers the first rows of the eval split greedily and scores the answers. Draws nothing at random and changes no
 * model. `eval/accuracy` is the share of answers to which the first reward gives 1 or more.
 */
export const evaluate = Effect.fn("evaluate")(function* (options: EvaluateOptions) {
  const { evalSize, maxCompletionLength } = options
  const split = yield* evalSplit
  const rows = Array.from({ length: Math.min(evalSize, split.size) }, (_, row) => row)
  const trajectories = yield* generate({
    prompts: yield* readPrompts(split, rows, options),
    numGenerations: 1,
    sampling: {
      temperature: 0,
      topK: 0,
      topP: 1,
      minP: 0,
      maxCompletionLength,
      stopTokens: yield* stopTokens(options.stop),
    },
    seed: 0,
  })
  const scored = yield* score(trajectories, maxCompletionLength)

  const { names } = yield* Reward
  const numbers = (values: ReadonlyArray<number | null | undefined>) =>
    values.filter((value) => typeof value === "number")
  const byReward = (name: string) => scored.map(({ rewards }) => rewards[name])
  const metrics: Record<string, number> = {
    "eval/reward": mean(numbers(scored.map(({ reward }) => reward))),
    "eval/completions/mean_length": mean(scored.map(({ completionTokens }) => completionTokens.length)),
  }
  for (const name of names) metrics[`eval/rewards/${name}/mean`] = mean(numbers(byReward(name)))
  if (names[0] !== undefined)
    metrics["eval/accuracy"] = mean(byReward(names[0]).map((value) => Number((value ?? 0) >= 1)))
  return { metrics: finite(metrics), trajectories: scored }
})
