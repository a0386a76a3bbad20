import { afterAll, describe, expect, test } from "vitest"
import { configs, data, sevens } from "./support/configs.ts"
import { bin, outcome, Project } from "./support/project.ts"

const projects: Project[] = []
const newProject = (files: Readonly<Record<string, string>> = {}): Project => {
  const project = new Project(files)
  projects.push(project)
  return project
}
afterAll(() => {
  for (const project of projects) project.dispose()
})

/** Few steps of little work. */
const small = ["maxSteps=3", "promptsPerStep=4", "numGenerations=4", "evalSize=6"].flatMap((pair) => ["--set", pair])

/** TRL's names, as its GRPO trainer logs them. */
const grpoMetrics = [
  "reward",
  "reward_std",
  "rewards/arithmetic/mean",
  "rewards/arithmetic/std",
  "frac_reward_zero_std",
  "completions/mean_length",
  "completions/min_length",
  "completions/max_length",
  "completions/clipped_ratio",
  "loss",
  "grad_norm",
  "learning_rate",
  "entropy",
  "clip_ratio/low_mean",
  "clip_ratio/high_mean",
  "clip_ratio/region_mean",
  "sampling/sampling_logp_difference/max",
  "num_tokens",
]

describe("rlpt train without a configuration", () => {
  const project = newProject()
  const run = project.run("first")

  test("teaches the built-in model arithmetic, and leaves a whole run directory", async () => {
    const { code, errors, output } = await project.rlpt(
      "train",
      "--run-name",
      "first",
      ...small,
      "--set",
      "logCompletionsSteps=1",
    )
    expect({ code, errors }).toEqual({ code: 0, errors: "" })
    expect(output).toMatch(
      /^rlpt \S+ · .+ · arithmetic · GRPO · 0\.56 M parameters · run first\nstep 0\/3 {2}accuracy .+\nstep 1\/3 {2}reward .+\n/,
    )
    expect(output).toContain("\nmodel    runs/first/model\ntry it   rlpt generate --model runs/first/model ")
    expect(run.files().map((file) => file.replace(/tfevents.+/, "tfevents"))).toEqual([
      ...["manifest.json", "policy/optimizer.safetensors", "policy/weights.safetensors", "trainer.json"].map(
        (file) => `checkpoints/step-3/${file}`,
      ),
      "config.json",
      "events.out.tfevents",
      "lock",
      "metrics.jsonl",
      ...["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"].map(
        (file) => `model/${file}`,
      ),
      ...[1, 2, 3].map((step) => `samples/step-${step}.jsonl`),
      "timings.jsonl",
    ])
    expect(run.json("config.json")).toMatchObject({
      runName: "first",
      maxSteps: 3,
      algorithm: "grpo",
      seed: 42,
      task: { use: "arithmetic" },
    })
  })

  test("logs metrics by TRL's names, finite in every step", () => {
    const steps = run.metrics.filter(({ step }) => step > 0)
    expect(steps.map(({ step }) => step)).toEqual([1, 2, 3])
    for (const metrics of steps) {
      const logged = grpoMetrics.filter((name) => Number.isFinite(metrics[name]))
      expect(logged).toEqual(grpoMetrics)
      expect(metrics["sampling/sampling_logp_difference/max"]).toBe(0)
    }
    expect(run.metrics[0]).toMatchObject({
      step: 0,
      "eval/accuracy": expect.any(Number),
      "eval/reward": expect.any(Number),
    })
    expect(run.metrics[3]).toMatchObject({ step: 3, "eval/accuracy": expect.any(Number) })
  })

  test("logs every completion with its prompt, rewards and advantage", () => {
    const samples = run.lines("samples/step-2.jsonl") as ReadonlyArray<{
      reward: number
      advantage: number
      row: number
    }>
    expect(samples).toHaveLength(16)
    for (const sample of samples) {
      expect(sample).toMatchObject({
        step: 2,
        prompt: expect.stringMatching(/^\d+[+-]\d+=$/),
        completion: expect.any(String),
        rewards: { arithmetic: sample.reward },
        finishReason: expect.stringMatching(/^(stop|length)$/),
      })
    }
    // Advantages are centred within each group.
    for (const row of new Set(samples.map((sample) => sample.row))) {
      const group = samples.filter((sample) => sample.row === row)
      expect(group).toHaveLength(4)
      expect(Math.abs(group.reduce((sum, { advantage }) => sum + advantage, 0))).toBeLessThan(1e-4)
    }
  })

  test("its model can be asked and judged", async () => {
    const asked = ["generate", "--model", "runs/first", "--greedy", "--max-completion-length", "8"]
    const piped = `printf "3+4=" | ${[process.execPath, bin, ...asked].map((word) => `"${word}"`).join(" ")}`
    const [said, again, judged] = await Promise.all([
      project.rlpt(...asked, "3+4="),
      outcome(project.spawnWith({}, "sh", "-c", piped)),
      project.rlpt("eval", "--model", "runs/first", "--json", "--set", "evalSize=12"),
    ])
    expect(said).toEqual({ code: 0, errors: "", output: expect.stringMatching(/^-?\d+\n$/) })
    expect(again).toEqual(said)
    expect({ code: judged.code, errors: judged.errors }).toEqual({ code: 0, errors: "" })
    const accuracy: unknown = JSON.parse(judged.output)["eval/accuracy"]
    expect(accuracy).toBeGreaterThan(0)
    expect(accuracy).toBeLessThan(1)
  })
})

test("rlpt init writes a configuration that rlpt train runs", async () => {
  const project = newProject()
  expect(await project.rlpt("init")).toEqual({
    code: 0,
    errors: "",
    output: "wrote rlpt.config.ts: change what you like, then run rlpt train\n",
  })
  const { code, errors } = await project.rlpt("train", "--run-name", "mine", ...small)
  expect({ code, errors }).toEqual({ code: 0, errors: "" })
  expect(project.run("mine").lastStep).toBe(3)
})

test("a reward in a file next to a YAML configuration is found from any folder, and scores", async () => {
  const project = newProject({
    "deep/rlpt.yaml": "rewards: [./my-reward.ts]\nmax_completion_length: 8\nlog_completions_steps: 1\n",
    "deep/my-reward.ts": sevens,
  })
  const { code, errors } = await project.rlpt("train", "--config", "deep/rlpt.yaml", "--run-name", "mine", ...small)
  expect({ code, errors }).toEqual({ code: 0, errors: "" })
  const samples = project.run("mine").lines("samples/step-3.jsonl") as ReadonlyArray<{
    completion: string
    reward: number
  }>
  expect(samples.map(({ reward }) => reward)).toEqual(
    samples.map(({ completion }) => [...completion].filter((character) => character === "7").length / 12),
  )
})

test("rlpt sft trains fresh weights, cuts what the context cannot hold and says so", async () => {
  const long = `{"prompt":"1+1=","completion":"${"12".repeat(60)}"}\n`
  const project = newProject({ ...data, "train.jsonl": data["train.jsonl"] + long })
  project.writeModel("tiny")
  const config = `
model: ./tiny
from_scratch: true
task: { use: jsonl, options: { train: ./train.jsonl, eval: ./eval.jsonl } }
batch_size: 41
max_steps: 6
learning_rate: 1e-2
eval_steps: 3
`
  project.write({ "sft.yaml": config })
  const { code, errors } = await project.rlpt("sft", "--config", "sft.yaml", "--run-name", "fresh")
  expect({ code, errors }).toEqual({ code: 0, errors: "" })
  const { metrics } = project.run("fresh")
  const losses = metrics.map((line) => line["eval/loss"]).filter((loss) => loss !== undefined)
  expect(losses).toHaveLength(3)
  expect(losses[2]!).toBeLessThan(losses[0]!)
  expect(metrics[1]!["completions/clipped_ratio"]).toBeCloseTo(1 / 41, 6)
})

test("rlpt doctor finds this machine and this project sound, and names what is not", async () => {
  const project = newProject({ ...data, "rlpt.config.yaml": configs.grpo })
  project.writeModel("tiny")
  const sound = await project.rlpt("doctor")
  expect({ code: sound.code, errors: sound.errors }).toEqual({ code: 0, errors: "" })
  for (const what of ["runtime", "adapter", "plugins", "project"])
    expect(sound.output).toMatch(new RegExp(`^[✓!] ${what} `, "m"))
  project.write({ "rlpt.config.yaml": `${configs.grpo}\nrewards_: 1\n` })
  const unsound = await project.rlpt("doctor")
  expect(unsound.code).toBe(1)
  expect(unsound.output).toMatch(
    /^✗ project +rlpt\.config\.yaml:\d+:1 {2}rewards_: unknown key; did you mean "rewards"\?$/m,
  )
})

test("rlpt plugins list --json is what programs can read", async () => {
  const { code, errors, output } = await newProject().rlpt("plugins", "list", "--json")
  expect({ code, errors }).toEqual({ code: 0, errors: "" })
  const { broken, plugins } = JSON.parse(output) as {
    broken: unknown
    plugins: ReadonlyArray<{ kind: string; name: string; usable: boolean }>
  }
  expect(broken).toEqual([])
  expect(plugins.every(({ usable }) => usable)).toBe(true)
  expect(plugins.map(({ kind, name }) => `${kind} ${name}`)).toEqual([
    "checkpoint-store local",
    "reward arithmetic",
    "reward format",
    "reward length",
    "reward model",
    "reward sentiment",
    "task arithmetic",
    "task jsonl",
    "task prompts",
  ])
})
