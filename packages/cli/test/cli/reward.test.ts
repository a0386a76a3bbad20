import { it } from "@effect/vitest"
import { Effect, FileSystem } from "effect"
import { expect } from "vitest"
import { withFiles } from "../support.ts"
import { runProcess } from "./support.ts"

// Right answers are better than wrong ones.
const pairs = Array.from({ length: 24 }, (_, i) => {
  const [a, b] = [i % 5, (3 * i) % 4]
  return { prompt: `${a}+${b}=`, chosen: String(a + b), rejected: String((a + b + 1 + (i % 3)) % 10), margin: 0.1 }
})
const files = {
  "pairs.jsonl": pairs.map((pair) => JSON.stringify(pair)).join("\n"),
  "reward.yaml": `
task: { use: jsonl, options: { train: pairs.jsonl, eval: pairs.jsonl } }
batch_size: 24
micro_batch_size: 16
max_steps: 12
eval_steps: 12
learning_rate: 3e-3
center_rewards_coefficient: 0.01
`,
}

it.live("rlpt reward learns which completion is better, resumes, and leaves a critic's start", () =>
  withFiles(
    files,
    Effect.fnUntraced(function* (directory) {
      const fs = yield* FileSystem.FileSystem
      const read = (file: string) => fs.readFileString(`${directory}/runs/${file}`)
      const train = (...args: ReadonlyArray<string>) => runProcess(directory, "reward", ...args)
      const run = yield* train("--config", "reward.yaml", "--run-name", "judge")
      expect(run.errors).not.toContain("error")
      expect(run.code).toBe(0)
      expect(run.output).toMatch(/^rlpt \S+ · .+ · jsonl · REWARD · .+ parameters · run judge$/m)
      expect(run.output).toMatch(/^use it {3}rlpt train --set algorithm=ppo --set criticModel=runs\/judge$/m)
      const steps = (yield* read("judge/metrics.jsonl"))
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line))
      // All rewards start at zero: nothing is preferred, and a margin of 0.1 is missed.
      expect(steps[0]).toMatchObject({ "eval/accuracy": 0, "eval/margin": 0 })
      expect(steps[1].loss).toBeCloseTo(Math.log1p(Math.exp(0.1)), 6)
      expect(steps.at(-1)["eval/accuracy"]).toBeGreaterThan(0.8)
      expect(steps.at(-1)["eval/loss"]).toBeLessThan(0.6)
      const { architectures } = JSON.parse(yield* read("judge/model/config.json"))
      expect(architectures).toEqual(["LlamaForSequenceClassification"])

      const parts = ["--config", "reward.yaml", "--run-name", "parts"]
      yield* train(...parts, "--set", "maxSteps=2", "--set", "evalSteps=0", "--set", "lrSchedulerType=constant")
      const on = yield* train("--resume", "parts", "--set", "maxSteps=3")
      expect(on.code).toBe(0)
      yield* train(
        "--config",
        "reward.yaml",
        "--run-name",
        "whole",
        "-s",
        "maxSteps=3",
        "-s",
        "evalSteps=0",
        "-s",
        "lrSchedulerType=constant",
      )
      expect(yield* read("parts/metrics.jsonl")).toBe(yield* read("whole/metrics.jsonl"))

      const small = [
        "promptsPerStep=2",
        "maxCompletionLength=4",
        "maxSteps=1",
        "algorithm=ppo",
        "criticModel=runs/judge",
      ]
      const ppo = yield* runProcess(
        directory,
        "train",
        "--run-name",
        "critical",
        ...small.flatMap((one) => ["-s", one]),
      )
      expect(ppo.errors).not.toContain("error")
      const last = JSON.parse((yield* read("critical/metrics.jsonl")).trim().split("\n").at(-1)!)
      expect(Math.abs(last["values/mean"])).toBeGreaterThan(0.05)

      const judged = "rewards=[{ use: model, timeout: 120, options: { model: runs/judge } }]"
      const grpo = ["promptsPerStep=2", "numGenerations=4", "maxSteps=1", "evalSteps=0", judged]
      const scored = yield* runProcess(
        directory,
        "train",
        "--run-name",
        "judged",
        ...grpo.flatMap((one) => ["-s", one]),
      )
      expect(scored.errors).not.toContain("error")
      const [step] = (yield* read("judged/metrics.jsonl"))
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line))
      expect(Math.abs(step["rewards/model/mean"])).toBeGreaterThan(0.05)
      expect(step["reward_std"]).toBeGreaterThan(0)
    }),
  ),
)
