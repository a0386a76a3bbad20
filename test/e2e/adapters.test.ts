import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { configs, data } from "./support/configs.ts"
import { Project } from "./support/project.ts"

const project = new Project({ ...data, "grpo.yaml": configs.grpo, "ppo.yaml": configs.ppo })
beforeAll(() => project.writeModel("tiny"))
afterAll(() => project.dispose())

/** Sizes that divide nothing: prompts of a step, samples of a prompt, sequences of a micro-batch. */
const cases = [
  { algorithm: "ppo", promptsPerStep: 17, numGenerations: 1, microBatchSize: 3 },
  { algorithm: "grpo", promptsPerStep: 5, numGenerations: 4, microBatchSize: 7 },
  { algorithm: "grpo", promptsPerStep: 3, numGenerations: 16, microBatchSize: 50 },
] as const

describe.each(["lavapipe", "swiftshader"])("on %s", (adapter) => {
  test(
    "sampler and trainer agree to the last bit with groups of 1, 4 and 16",
    { timeout: 180_000 },
    async ({ skip }) => {
      const doctor = await project.rlpt("doctor", "--config", "grpo.yaml", "--adapter", adapter)
      if (!/^[✓!] adapter /m.test(doctor.output)) skip(`there is no ${adapter} here: ${doctor.output}`)
      for (const { algorithm, ...sizes } of cases) {
        const name = `${adapter}-${algorithm}-${sizes.numGenerations}`
        const set = Object.entries({ ...sizes, adapter, stepsPerGeneration: 1, maxSteps: 4, evalSteps: 0 })
        const args = [
          "--config",
          `${algorithm}.yaml`,
          "--run-name",
          name,
          ...set.flatMap(([key, value]) => ["--set", `${key}=${value}`]),
        ]
        const { code, errors } = await project.rlpt("train", ...args)
        expect({ name, code, errors }).toEqual({ name, code: 0, errors: "" })
        const { metrics } = project.run(name)
        const differences = metrics.map((line) => line["sampling/sampling_logp_difference/max"])
        expect({ name, differences }).toEqual({ name, differences: [0, 0, 0, 0] })
        expect(metrics[3]!["kl"]).not.toBe(0)
      }
    },
  )
})
