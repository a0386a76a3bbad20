import { it } from "@effect/vitest"
import { Effect, FileSystem } from "effect"
import { expect } from "vitest"
import { withFiles } from "../support.ts"
import { runProcess } from "./support.ts"

const config = `
prompts_per_step: 2
num_generations: 4
max_completion_length: 6
max_steps: 2
learning_rate: 1e-2
beta: 0.01
lora: { r: 2, alpha: 4, target_modules: [q_proj, v_proj], use_dora: true }
output_dir: out
`

it.live("rlpt train with lora writes the adapter and the merged model, and checkpoints of the adapter alone", () =>
  withFiles(
    { "rlpt.config.yaml": config },
    Effect.fnUntraced(function* (directory) {
      const fs = yield* FileSystem.FileSystem
      const run = yield* runProcess(directory, "train", "--run-name", "low")
      expect(run.errors).not.toContain("error")
      expect(run.code).toBe(0)
      expect(run.output).toMatch(/ parameters \([\d,]+ trained\) · run low$/m)
      expect(run.output).toMatch(/^adapter {2}out\/low\/adapter$/m)
      expect((yield* fs.readDirectory(`${directory}/out/low/adapter`)).toSorted()).toEqual([
        "adapter_config.json",
        "adapter_model.safetensors",
      ])
      const settings = JSON.parse(yield* fs.readFileString(`${directory}/out/low/adapter/adapter_config.json`))
      expect(settings).toMatchObject({ peft_type: "LORA", r: 2, target_modules: ["q_proj", "v_proj"], use_dora: true })

      const files = yield* fs.readDirectory(`${directory}/out/low/checkpoints`, { recursive: true })
      const sizes = yield* Effect.forEach(
        files.filter((file) => file.endsWith("weights.safetensors")),
        (file) => Effect.map(fs.stat(`${directory}/out/low/checkpoints/${file}`), ({ size }) => Number(size)),
      )
      const { size: whole } = yield* fs.stat(`${directory}/out/low/model/model.safetensors`)
      expect(sizes).toHaveLength(1)
      expect(sizes[0]!).toBeLessThan(Number(whole) / 10)

      const again = yield* runProcess(directory, "train", "--resume", "low", "--set", "maxSteps=3")
      expect(again.code).toBe(0)
      // The adapter names its base. It is trained on, KL is to what it was, and the run's model holds both.
      const more =
        "{ model: out/low/adapter, max_steps: 1, beta: 0.1, algorithm: ppo, output_dir: out, prompts_per_step: 4 }"
      yield* fs.writeFileString(`${directory}/more.yaml`, more)
      const on = yield* runProcess(
        directory,
        "train",
        "-c",
        "more.yaml",
        "--run-name",
        "on",
        "-s",
        "maxCompletionLength=4",
      )
      expect(on.errors).not.toContain("error")
      const next = JSON.parse(yield* fs.readFileString(`${directory}/out/on/adapter/adapter_config.json`))
      expect(next).toMatchObject({ ...settings, base_model_name_or_path: settings.base_model_name_or_path })
      const generate = ["generate", "--greedy", "--max-completion-length", "6", "12+34="]
      const [merged, adapted] = [
        yield* runProcess(directory, ...generate, "--model", "out/on"),
        yield* runProcess(directory, ...generate, "--model", "out/on/adapter"),
      ]
      expect(adapted).toMatchObject({ code: 0, output: merged.output })
      const both = yield* runProcess(directory, "train", "--set", "model=out/low/adapter")
      expect(both.errors).toContain("lora: the model ")
      expect(both.errors).toContain("is an adapter, which is trained as it is: leave lora out")

      const wrong = yield* runProcess(directory, "train", "--set", "lora.targetModules=[query]")
      expect(wrong.errors).toContain('cannot load the model: lora: targetModules: no linear layer is called "query"')
    }),
  ),
)
