import { it } from "@effect/vitest"
import { Effect, FileSystem } from "effect"
import { expect } from "vitest"
import { withFiles } from "../support.ts"
import { runProcess } from "./support.ts"

it.live("rlpt plan says what a run takes and what fits, and leaves nothing behind", () =>
  withFiles(
    {
      "rlpt.config.yaml": "{ promptsPerStep: 4, numGenerations: 4, maxCompletionLength: 8, microBatchSize: 4 }",
      "sft.json": '{ "batchSize": 8, "gradientCheckpointing": true, "seed": 3 }',
    },
    Effect.fnUntraced(function* (directory) {
      const { code, output } = yield* runProcess(directory, "plan", "--memory", "1GiB")
      expect(code).toBe(0)
      for (const name of ["weights", "gradients", "optimizer", "activations", "KV cache", "log-prob chunk"])
        expect(output).toMatch(new RegExp(`^${name} +[\\d.]+ [KM]iB$`, "m"))
      expect(output).toMatch(/^peak +[\d.]+ MiB {2}with microBatchSize 4$/m)
      expect(output).toMatch(/^the largest microBatchSize in 1 GiB is 16$/m)

      const sft = yield* runProcess(directory, "plan", "--sft", "-c", "sft.json", "--memory", "1GiB", "--json")
      expect(JSON.parse(sft.output)).toMatchObject({ kvCache: 0, largestMicroBatchSize: 8 })
      const files = yield* (yield* FileSystem.FileSystem).readDirectory(directory)
      expect(files).toHaveLength(2)

      const wrong = yield* runProcess(directory, "plan", "--memory", "lots")
      expect(wrong.errors).toContain('--memory: expected a size such as 24GiB or 512MiB, got "lots"')
    }),
  ),
)
