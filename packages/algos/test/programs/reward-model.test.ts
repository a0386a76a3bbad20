import { describe, expect, it } from "@effect/vitest"
import { Policy, type TaskRow } from "@rlpt/core"
import { Effect, Layer, Schema } from "effect"
import { rewardModel, RewardModelOptions, type RewardModelTraining } from "../../src/index.ts"
import { fakeCritic } from "../support/fake-models.ts"
import { emptyDisk, fakeRun } from "../support/fake-run.ts"

const pair: Partial<TaskRow> = { chosen: "aa", rejected: "b", columns: {} }

const run = (more: Partial<TaskRow>, training: Partial<RewardModelTraining> = {}) => {
  const disk = emptyDisk()
  const model = fakeCritic()
  const options = Schema.decodeSync(RewardModelOptions)({ maxSteps: 1, batchSize: 2, evalSteps: 1 })
  const { layer } = fakeRun(disk, { more })
  return Effect.map(
    Effect.provide(rewardModel({ ...options, ...training }), Layer.merge(layer, Layer.succeed(Policy, model.engine))),
    () => ({ disk, calls: model.calls }),
  )
}

const sequencesOf = ({ calls }: Effect.Success<ReturnType<typeof run>>) => {
  const [call] = calls
  if (call?.kind !== "accumulate") throw new Error("nothing was accumulated")
  return call.batch.sequences.map(({ promptLength, tokens }) => ({ text: [...tokens.subarray(0, -1)], promptLength }))
}

describe("the training of a reward model", () => {
  it.effect("asks for the rewards of whole texts, and reports TRL's metrics", () =>
    Effect.gen(function* () {
      const done = yield* run(pair)
      const [chosen, rejected] = [
        { text: [1, 2, 1, 1, 0], promptLength: 5 },
        { text: [1, 2, 2, 0], promptLength: 4 },
      ]
      expect(sequencesOf(done)).toEqual([chosen, rejected, chosen, rejected])
      const metrics = done.disk.metrics.get(1)!
      expect(metrics["loss"]).toBeCloseTo(Math.log(2), 12)
      expect(metrics).toMatchObject({ accuracy: 0, margin: 0, num_tokens: 18 })
      expect(Object.keys(metrics)).toEqual(
        expect.arrayContaining(["min_reward", "mean_reward", "max_reward", "eval/accuracy", "eval/loss", "grad_norm"]),
      )
    }),
  )

  it.effect("at the last token that does not pad", () =>
    Effect.gen(function* () {
      const [chosen, rejected] = sequencesOf(yield* run(pair, { padToken: 0 }))
      expect([chosen!.text, rejected!.text]).toEqual([
        [1, 2, 1, 1],
        [1, 2, 2],
      ])
    }),
  )

  it.effect("with the margins of the rows", () =>
    Effect.gen(function* () {
      const { disk } = yield* run({ ...pair, columns: { margin: 2 } })
      expect(disk.metrics.get(1)!["loss"]).toBeCloseTo(Math.log1p(Math.exp(2)), 12)
    }),
  )

  const refused: ReadonlyArray<readonly [string, Partial<TaskRow>, Partial<RewardModelTraining>, RegExp]> = [
    ["without a pair", { chosen: "aa" }, {}, /^Row \d of task "letters" has no rejected completion/],
    ["with a margin in words", { ...pair, columns: { margin: "big" } }, {}, /its margin must be a number, not "big"/],
    ["that is too long", pair, { maxLength: 4 }, /its chosen text has 5 tokens, more than maxLength 4/],
  ]
  for (const [name, more, training, message] of refused) {
    it.effect(`refuses a row ${name}`, () =>
      Effect.gen(function* () {
        expect((yield* Effect.flip(run(more, training))).message).toMatch(message)
      }),
    )
  }
})
