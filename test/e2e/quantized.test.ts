import { readFileSync } from "node:fs"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { configs, data } from "./support/configs.ts"
import { Project, sha256 } from "./support/project.ts"
import { quantizedBase } from "./support/quantized-base.ts"

const config = `${configs.grpo}
model: ./base.gguf
lora: { r: 4, alpha: 8 }
max_steps: 3
learning_rate: 1e-2
`
  .replace("model: ./tiny\n", "")
  .replace("max_steps: 10\n", "")
  .replace("learning_rate: 3e-3\n", "")

describe("a run with an adapter on a quantised base", () => {
  const project = new Project({ ...data, "base.gguf": quantizedBase(), "rlpt.config.yaml": config })
  const kept = project.run("kept")
  beforeAll(async () => {
    expect(await project.rlpt("train", "--run-name", "kept")).toMatchObject({ code: 0, errors: "" })
  })
  afterAll(() => project.dispose())

  test("learns, and sampler and trainer agree to the last bit in every step", () => {
    const steps = kept.metrics.filter(({ step }) => step > 0)
    expect(steps.map((metrics) => metrics["sampling/sampling_logp_difference/max"])).toEqual([0, 0, 0])
    expect(steps.every(({ grad_norm: norm }) => norm! > 0)).toBe(true)
    // The reference is the base itself, from which the adapter departs within the first step.
    expect(steps.every(({ kl }) => kl! > 1e-4)).toBe(true)
  })

  test("is that of the base in float32, byte for byte, in less memory", async () => {
    expect((await project.rlpt("train", "--run-name", "wide", "--set", "dtype=float32")).code).toBe(0)
    const wide = project.run("wide")
    for (const file of ["metrics.jsonl", "adapter/adapter_model.safetensors", "model/model.safetensors"])
      expect(sha256(readFileSync(kept.file(file))), file).toBe(sha256(readFileSync(wide.file(file))))
    const weights = async (...set: ReadonlyArray<string>) => {
      const { output } = await project.rlpt("plan", ...set)
      return Number(/^weights +([\d.]+) KiB$/m.exec(output)?.[1])
    }
    expect(await weights()).toBeLessThan(0.75 * (await weights("--set", "dtype=float32")))
  })

  test("is not needed to sample from the base alone", async () => {
    const { code, errors, output } = await project.rlpt("generate", "--model", "base.gguf", "--greedy", "12+3=")
    expect({ code, errors }).toEqual({ code: 0, errors: "" })
    expect(output).toMatch(/^[-0-9+=]+$/m)
  })

  test("cannot be had by training the quantised weights themselves", async () => {
    await Bun.write(project.path("full.yaml"), config.replace(/lora: .*\n/, "dtype: auto\n"))
    const { code, errors } = await project.rlpt("train", "-c", "full.yaml")
    expect(code).not.toBe(0)
    expect(errors).toContain('dtype: "auto" would keep embed_tokens.weight quantised, and it is to be trained')
  })
})
