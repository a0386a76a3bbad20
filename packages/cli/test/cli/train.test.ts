import { it } from "@effect/vitest"
import { Effect, FileSystem } from "effect"
import { expect } from "vitest"
import { withFiles } from "../support.ts"
import { runProcess, spawnCli, untilStep } from "./support.ts"

const config = `
task: arithmetic
rewards: [arithmetic]
prompts_per_step: 2
num_generations: 4
max_completion_length: 6
eval_steps: 3
eval_size: 4
save_steps: 2
log_completions_steps: 2
learning_rate: 1e-3
output_dir: out
`

it.live("rlpt train: killed and resumed, writes the bytes of an unbroken run; rlpt eval judges its model", () =>
  withFiles(
    { "rlpt.config.yaml": config },
    Effect.fnUntraced(function* (directory) {
      const fs = yield* FileSystem.FileSystem
      // A model to start from: the built-in architecture after a little imitation.
      yield* fs.writeFileString(`${directory}/sft.yaml`, "{ fromScratch: true, maxSteps: 2, outputDir: out }")
      const base = yield* runProcess(directory, "sft", "--config", "sft.yaml", "--run-name", "base")
      expect(base.code).toBe(0)

      const set = ["--set", "model=out/base/model", "--set", "maxSteps=6"]
      const whole = yield* runProcess(directory, "train", "--run-name", "whole", ...set)
      expect(whole.errors).not.toContain("error")
      expect(whole.code).toBe(0)
      expect(whole.output).toMatch(/^rlpt \S+ · .+ · arithmetic · GRPO · .+ parameters · run whole$/m)
      expect(whole.output).toMatch(/^step 0\/6 {2}accuracy \d/m)
      expect(whole.output).toMatch(/^step 6\/6 {2}reward \d.+ {2}entropy \d.+ tok\/s$/m)

      const child = spawnCli(directory, "train", "--run-name", "broken", ...set)
      yield* untilStep(`${directory}/out/broken`, 3)
      child.kill("SIGKILL")
      yield* Effect.promise(() => child.exited)
      expect((yield* runProcess(directory, "train", "--resume", "broken")).code).toBe(0)
      const hash = (run: string, file: string) =>
        Effect.map(fs.readFile(`${directory}/out/${run}/${file}`), (bytes) => Bun.hash(bytes))
      for (const file of ["metrics.jsonl", "samples/step-2.jsonl", "samples/step-6.jsonl", "model/model.safetensors"]) {
        const [broken, unbroken] = [yield* hash("broken", file), yield* hash("whole", file)]
        expect({ file, hash: broken }).toEqual({ file, hash: unbroken })
      }

      const judged = yield* runProcess(directory, "eval", "--model", "out/whole", "--json")
      expect(JSON.parse(judged.output)).toMatchObject({ "eval/accuracy": expect.any(Number) })
    }),
  ),
)
