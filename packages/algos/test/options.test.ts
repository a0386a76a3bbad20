import { Schema, SchemaIssue } from "effect"
import { describe, expect, it } from "vitest"
import { SftOptions, TrainOptions, withAlgorithmDefaults } from "../src/index.ts"

const problems = (schema: typeof TrainOptions | typeof SftOptions, input: object): ReadonlyArray<string> => {
  const result = Schema.decodeResult(schema, { errors: "all", onExcessProperty: "error" })(withAlgorithmDefaults(input))
  if (result._tag === "Success") return []
  return SchemaIssue.makeFormatterStandardSchemaV1()(result.failure.issue).issues.map(
    ({ message, path }) => `${path?.map(String).join(".")}: ${message}`,
  )
}

describe("training options", () => {
  it("have TRL's defaults", () => {
    const options = Schema.decodeSync(TrainOptions)({})
    expect(options).toMatchObject({
      algorithm: "grpo",
      learningRate: 1e-6,
      numGenerations: 8,
      temperature: 1,
      beta: 0,
      epsilon: 0.2,
      lossType: "dapo",
      scaleRewards: "group",
      numIterations: 1,
      maxGradNorm: 1,
    })
    expect(options.epsilonHigh).toBeUndefined()
  })

  it("have those of TRL's PPO for ppo, which what the user says overrides", () => {
    const decode = (input: object) => Schema.decodeSync(TrainOptions)(withAlgorithmDefaults(input))
    expect(decode({ algorithm: "ppo" })).toMatchObject({ numIterations: 4, beta: 0.05, klEstimator: "k1", lam: 0.95 })
    expect(decode({ algorithm: "ppo", beta: 0 }).beta).toBe(0)
  })

  it("describe every field", () => {
    const described = (schema: typeof TrainOptions | typeof SftOptions) =>
      Object.values(
        (Schema.toJsonSchemaDocument(schema).schema as { properties: Record<string, { description?: string }> })
          .properties,
      ).map(({ description }) => description)
    for (const description of [...described(TrainOptions), ...described(SftOptions)]) {
      expect(description).toMatch(/^.{10,}[.]$/)
    }
  })

  it("refuse what is wrong between fields, and name it", () => {
    expect(problems(TrainOptions, { numGenerations: 1 })).toEqual([
      expect.stringMatching(/^numGenerations: .*at least 2/),
    ])
    expect(problems(TrainOptions, { promptsPerStep: 6, stepsPerGeneration: 4 })).toEqual([
      expect.stringMatching(/^stepsPerGeneration: must divide promptsPerStep \(6\)/),
    ])
    expect(problems(TrainOptions, { delta: 1.1 })).toEqual([expect.stringMatching(/^delta: must be greater/)])
    expect(problems(TrainOptions, { epsilon: 1 })).toEqual([expect.stringMatching(/^epsilon: must be below 1/)])
    expect(problems(TrainOptions, { warmupSteps: 1, warmupRatio: 0.1 })).toEqual([
      expect.stringMatching(/^warmupRatio/),
    ])
    expect(problems(SftOptions, { warmupSteps: 1, warmupRatio: 0.1 })).toEqual([expect.stringMatching(/^warmupRatio/)])
  })

  it("refuse options that the algorithm would not read", () => {
    expect(problems(TrainOptions, { gamma: 0.9, missingEosPenalty: 1 })).toEqual([
      'gamma: only algorithm "ppo" reads it',
      'missingEosPenalty: only algorithm "ppo" reads it',
    ])
    expect(problems(TrainOptions, { algorithm: "ppo", scaleRewards: "none" })).toHaveLength(1)
    expect(problems(TrainOptions, { algorithm: "ppo", gamma: 0.9 })).toEqual([])
  })

  it("refuse values out of range and names that do not exist", () => {
    expect(problems(TrainOptions, { temperature: 0 })).toEqual([expect.stringMatching(/^temperature/)])
    expect(problems(TrainOptions, { seed: 2 ** 32 })).toEqual([expect.stringMatching(/^seed/)])
    expect(problems(TrainOptions, { learning_rate: 1 })).toEqual([expect.stringMatching(/^learning_rate/)])
    expect(problems(TrainOptions, { algorithm: "dpo" })).toEqual([expect.stringMatching(/^algorithm/)])
  })
})
