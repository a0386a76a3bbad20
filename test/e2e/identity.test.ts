import { readFileSync } from "node:fs"
import { setTimeout as sleep } from "node:timers/promises"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { configs, data } from "./support/configs.ts"
import { outcome, Project, sha256, type Outcome } from "./support/project.ts"

/** How often each run is killed. A soak takes ten and more: `RLPT_KILLS=10 RLPT_KILL_SEED=3`. */
const kills = Number(process.env["RLPT_KILLS"] ?? 3)
const seed = Number(process.env["RLPT_KILL_SEED"] ?? 1)

/** Uniform numbers in [0, 1) from a seed (mulberry32). */
const random = (start: number) => {
  let state = start
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let z = Math.imul(state ^ (state >>> 15), state | 1)
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61)
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32
  }
}

const maxSteps = 10

describe.each(["grpo", "ppo"] as const)("a run of %s is a function of its configuration and seed", (algorithm) => {
  const project = new Project({ ...data, "rlpt.config.yaml": configs[algorithm] })
  const whole = project.run("whole")
  let undisturbed: Outcome
  beforeAll(async () => {
    project.writeModel("tiny")
    undisturbed = await project.rlpt("train", "--run-name", "whole")
  })
  afterAll(() => project.dispose())

  test("it ends well, and says nothing on the error output", () => {
    expect(undisturbed.errors).toBe("")
    expect(undisturbed.code).toBe(0)
    expect(whole.lastStep).toBe(maxSteps)
  })

  test("sampler and trainer agree to the last bit in every step", () => {
    const steps = whole.metrics.filter(({ step }) => step > 0)
    expect(steps.map((metrics) => metrics["sampling/sampling_logp_difference/max"])).toEqual(Array(maxSteps).fill(0))
    // The weights do move: later updates of a step, and the distance from the reference, show it.
    expect(steps.some(({ kl }) => kl! > 1e-4)).toBe(true)
    expect(steps.every(({ grad_norm: norm }) => norm! > 0)).toBe(true)
    const model = (file: string) => sha256(readFileSync(file))
    expect(model(whole.file("model/model.safetensors"))).not.toBe(model(project.path("tiny/model.safetensors")))
  })

  test("a second one writes the same bytes, another seed others", async () => {
    const [again, other] = await Promise.all([
      project.rlpt("train", "--run-name", "again"),
      project.rlpt("train", "--run-name", "other", "--set", "seed=43"),
    ])
    expect([again.code, other.code]).toEqual([0, 0])
    expect(project.run("again").fingerprint).toEqual(whole.fingerprint)
    expect(Object.keys(whole.fingerprint).length).toBeGreaterThan(12)
    for (const file of ["metrics.jsonl", "samples/step-3.jsonl", "model/model.safetensors"]) {
      expect(project.run("other").fingerprint[file]).not.toBe(whole.fingerprint[file])
    }
  })

  test(
    `killed ${kills} times at random moments and resumed, it writes the same bytes`,
    { timeout: 60_000 * (kills + 2) },
    async () => {
      const draw = random(seed)
      const killed = project.run("killed")
      const start = () =>
        project.spawn("train", ...(project.runs.includes("killed") ? ["--resume", "killed"] : ["--run-name", "killed"]))
      const moments: string[] = []
      for (let kill = 0; kill < kills; kill++) {
        // One of them at any time, also while it starts; the others spread over the run, within or between its steps.
        const step = kill % 4 === 1 ? -1 : Math.floor(((kill + draw()) / kills) * (maxSteps + 1))
        const delay = Math.floor(draw() * (step < 0 ? 1500 : 80))
        const child = start()
        await killed.until(step, child)
        await sleep(delay)
        child.kill("SIGKILL")
        const { code, errors } = await outcome(child)
        moments.push(`${delay} ms after step ${step}: at ${killed.lastStep}, exit ${code}`)
        expect({ moments, errors }).toEqual({ moments, errors: "" })
      }
      const { code, errors } = await outcome(start())
      expect({ moments, code, errors }).toEqual({ moments, code: 0, errors: "" })
      expect({ moments, files: killed.fingerprint }).toEqual({ moments, files: whole.fingerprint })
      if (process.env["RLPT_KILLS"] !== undefined) process.stderr.write(`${algorithm}: ${moments.join("; ")}\n`)
    },
  )

  test("stopped by Ctrl-C it finishes its step and saves; resumed, it writes the same bytes", async () => {
    const stopped = project.run("stopped")
    const child = project.spawn("train", "--run-name", "stopped")
    await stopped.until(3, child)
    child.kill("SIGINT")
    const { code, errors, output } = await outcome(child)
    expect(code).toBe(130)
    expect(errors).toBe(
      "stopping after this step; press Ctrl-C again to stop at once and lose it\n" +
        "run stopped stopped; go on by: rlpt train --resume stopped\n",
    )
    expect(output).not.toContain("model ")
    const { lastStep } = stopped
    expect(lastStep).toBeGreaterThanOrEqual(3)
    expect(stopped.checkpoints.at(-1)).toBe(lastStep)

    const resumed = await project.rlpt("train", "--resume", "stopped")
    expect(resumed.code).toBe(0)
    expect(resumed.output).toContain(`going on after step ${lastStep}\n`)
    expect(stopped.fingerprint).toEqual(whole.fingerprint)
  })
})
