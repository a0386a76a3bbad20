import { it } from "@effect/vitest"
import { Effect, FileSystem } from "effect"
import { describe, expect } from "vitest"
import { withFiles } from "../support.ts"
import { runProcess, spawnCli, untilStep } from "./support.ts"

// The built-in architecture from fresh weights: small, and there is nothing to download.
const config = `
task: arithmetic
from_scratch: true
batch_size: 4
micro_batch_size: 2
eval_steps: 4
eval_size: 4
save_steps: 3
learning_rate: 1e-3
`
const files = { "rlpt.config.yaml": config }

/** What must be the same, byte for byte, however often a run was stopped. */
const results = Effect.fnUntraced(function* (run: string) {
  const fs = yield* FileSystem.FileSystem
  const model = yield* fs.readFile(`${run}/model/model.safetensors`)
  return { metrics: yield* fs.readFileString(`${run}/metrics.jsonl`), model: Bun.hash(model) }
})

describe("rlpt sft", () => {
  it.live("trains, says how it went, and leaves a model that rlpt generate takes", () =>
    withFiles(
      files,
      Effect.fnUntraced(function* (directory) {
        const { code, errors, output } = yield* runProcess(directory, "sft", "--run-name", "one", "--set", "maxSteps=8")
        expect(errors).not.toContain("error")
        expect(code).toBe(0)
        expect(output).toMatch(/^rlpt \S+ · .+ · arithmetic · SFT · .+ parameters · run one$/m)
        expect(output).toMatch(/^step 8\/8 {2}loss \d/m)
        expect(output).toMatch(/^held-out loss \d\S+ → \d\S+$/m)
        expect(output).toMatch(/^try it {3}rlpt generate --model runs\/one\/model "/m)

        const generated = yield* runProcess(directory, "generate", "--model", "runs/one", "-n", "2", "3+4=")
        expect(generated.code).toBe(0)
        expect(generated.output).toMatch(/^── 1 ──\n[^]*── 2 ──\n/)

        const taken = yield* runProcess(directory, "sft", "--run-name", "one")
        expect(taken.code).toBe(1)
        expect(taken.errors).toBe(
          "error: run one exists already: go on with it by --resume one, or choose another --run-name\n",
        )
      }),
    ),
  )

  it.live("killed and resumed, writes the bytes of an unbroken run", () =>
    withFiles(
      files,
      Effect.fnUntraced(function* (directory) {
        const set = ["--set", "maxSteps=12"]
        yield* runProcess(directory, "sft", "--run-name", "whole", ...set)
        const child = spawnCli(directory, "sft", "--run-name", "broken", ...set)
        yield* untilStep(`${directory}/runs/broken`, 5)
        child.kill("SIGKILL")
        yield* Effect.promise(() => child.exited)

        const resumed = yield* runProcess(directory, "sft", "--resume", "broken")
        expect(resumed.code).toBe(0)
        expect(resumed.output).toMatch(/^going on after step \d+$/m)
        expect(yield* results(`${directory}/runs/broken`)).toEqual(yield* results(`${directory}/runs/whole`))
      }),
    ),
  )

  it.live("interrupted, saves the step that it was at and says how to go on", () =>
    withFiles(
      files,
      Effect.fnUntraced(function* (directory) {
        const fs = yield* FileSystem.FileSystem
        const run = `${directory}/runs/long`
        const child = spawnCli(directory, "sft", "--run-name", "long", "--set", "maxSteps=100000", "-s", "saveSteps=0")
        yield* untilStep(run, 2)
        child.kill("SIGINT")
        expect(yield* Effect.promise(() => child.exited)).toBe(130)
        const errors = yield* Effect.promise(() => new Response(child.stderr).text())
        expect(errors).toContain("stopping after this step")
        expect(errors).toContain("run long stopped; go on by: rlpt sft --resume long")
        const lines = (yield* fs.readFileString(`${run}/metrics.jsonl`)).trimEnd().split("\n")
        const { step } = JSON.parse(lines.at(-1) ?? "")
        expect(yield* fs.readDirectory(`${run}/checkpoints`)).toContain(`step-${step}`)
      }),
    ),
  )
})
