import {
  type Prompt,
  Reward,
  RolloutEngine,
  type RolloutRequest,
  type ScoredTrajectory,
  type Split,
  Task,
  type Trajectory,
} from "@rlpt/core"
import { Effect, Stream } from "effect"
import { TrainError } from "../errors.ts"
import { type ChatTemplateOptions, encodePrompt, tokenize } from "./tokenize.ts"

/**
 * Reads and tokenises `rows` of a split; fails with the row's name if a prompt cannot be tokenised or leaves no room for
 * a completion.
 */
export const readPrompts = Effect.fn("readPrompts")(function* (
  split: Split,
  rows: ReadonlyArray<number>,
  options: ChatTemplateOptions & { readonly maxCompletionLength: number },
) {
  const { maxCompletionLength } = options
  const task = yield* Task
  const { contextLength } = yield* RolloutEngine
  const room = contextLength - maxCompletionLength
  return yield* Effect.forEach(rows, (row) =>
    Effect.gen(function* () {
      const read = yield* split.row(row)
      const { tokens, ...prompt } = yield* encodePrompt(read, options, `Row ${row} of task "${task.name}"`)
      if (tokens.length === 0) {
        return yield* new TrainError({ message: `Row ${row} of task "${task.name}" has an empty prompt.` })
      }
      if (tokens.length > room) {
        return yield* new TrainError({
          message:
            `Row ${row} of task "${task.name}": its prompt has ${tokens.length} tokens, but a context of ${contextLength} less ` +
            `maxCompletionLength ${maxCompletionLength} leaves ${room}. Remove the row or lower maxCompletionLength.`,
        })
      }
      return { row, ...prompt, tokens, columns: read.columns } satisfies Prompt
    }),
  )
})

/** The ids of the `stop` texts; fails for a text that is not exactly one token. */
export const stopTokens = Effect.fnUntraced(function* (stop: ReadonlyArray<string>) {
  if (stop.length === 0) return []
  const begin = yield* tokenize("", "stop")
  return yield* Effect.forEach(stop, (text) =>
    Effect.gen(function* () {
      const tokens = (yield* tokenize(text, "stop")).subarray(begin.length)
      if (tokens.length === 1) return tokens[0]!
      return yield* new TrainError({
        message: `stop: ${JSON.stringify(text)} is ${tokens.length} tokens of this model's tokenizer; it must be one.`,
      })
    }),
  )
})

/**
 * All trajectories of a request, by prompt and then by sample: engines emit them in any order, and everything after
 * this must not depend on it.
 */
export const generate = Effect.fn("generate")(function* (request: RolloutRequest) {
  const engine = yield* RolloutEngine
  const { numGenerations, prompts } = request
  const position = new Map(prompts.map((prompt, i) => [prompt.row, i]))
  const slots = new Map<number, Trajectory>()
  yield* Stream.runForEach(engine.generate(request), (trajectory) =>
    Effect.sync(() => {
      slots.set((position.get(trajectory.prompt.row) ?? Number.NaN) * numGenerations + trajectory.sample, trajectory)
    }),
  )
  const ordered = Array.from({ length: prompts.length * numGenerations }, (_, i) => slots.get(i))
  const missing = ordered.indexOf(undefined)
  if (missing === -1 && slots.size === ordered.length) return ordered as ReadonlyArray<Trajectory>
  const prompt = prompts[Math.floor(missing / numGenerations)]
  return yield* new TrainError({
    message:
      missing === -1
        ? `The rollout engine returned ${slots.size} completions where ${ordered.length} were asked for.`
        : `The rollout engine returned no completion ${missing % numGenerations} of row ${prompt?.row}.`,
  })
})

/** Adds to each trajectory what the rewards say of it. */
export const score = Effect.fn("score")(function* (
  trajectories: ReadonlyArray<Trajectory>,
  maxCompletionLength: number,
) {
  const reward = yield* Reward
  const scores = yield* reward.score(
    trajectories.map(({ completion, completionTokens, finishReason, prompt }) => ({
      prompt: prompt.text,
      ...(prompt.messages && { messages: prompt.messages }),
      completion,
      completionTokens,
      columns: prompt.columns,
      finishReason,
      maxCompletionLength,
    })),
  )
  return yield* Effect.forEach(trajectories, (trajectory, i) => {
    const score = scores[i]
    if (score === undefined || (score.reward !== null && !Number.isFinite(score.reward))) {
      return new TrainError({
        message: `Row ${trajectory.prompt.row}, sample ${trajectory.sample}: the reward is ${score?.reward}, not a finite number or null.`,
      })
    }
    return Effect.succeed<ScoredTrajectory>({ ...trajectory, ...score })
  })
})
