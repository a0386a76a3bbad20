import { rmSync } from "node:fs"
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest"
import { characterTokenizer } from "@rlpt/models"
import { configs, data, rows } from "./support/configs.ts"
import { tinyModelFiles } from "./support/model.ts"
import { outcome, Project } from "./support/project.ts"

const project = new Project({ ...data, "rlpt.config.yaml": configs.grpo })
beforeAll(() => project.writeModel("tiny"))
afterEach(() => rmSync(project.path("runs"), { recursive: true, force: true }))
afterAll(() => project.dispose())

/** Runs `rlpt train` with `args`, expects it to fail and to leave no run, and gives the error output. */
const refusal = async (...args: ReadonlyArray<string>): Promise<string> => {
  const { code, errors } = await project.rlpt("train", ...args)
  expect({ errors, code, runs: project.runs }).toEqual({ errors, code: 1, runs: [] })
  expect(errors.match(/^error:/gm)).toHaveLength(1)
  expect(errors).not.toMatch(/\n +at |bug in rlpt/)
  return errors
}

const settings = (values: Readonly<Record<string, unknown>>) =>
  Object.entries(values).flatMap(([key, value]) => [
    "--set",
    `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`,
  ])

describe("a model that cannot be used is refused by the name of its file", () => {
  const weights = tinyModelFiles()["model.safetensors"]!

  test("a missing directory", async () => {
    expect(await refusal(...settings({ model: "./nowhere" }))).toBe(
      `error: --set model=./nowhere  model: ${project.path("nowhere")} is not a Hugging Face directory: it has no config.json ` +
        "with a model_type. Give the path of a downloaded model or of a run that has finished, or a hub id such as Qwen/Qwen3-0.6B.\n",
    )
  })

  test("no weights", async () => {
    project.writeModel("empty")
    rmSync(project.path("empty/model.safetensors"))
    expect(await refusal(...settings({ model: "./empty" }))).toContain(
      `${project.path("empty/model.safetensors")}: neither it nor`,
    )
  })

  test("a truncated safetensors file, within its data, its header and its first bytes", async () => {
    for (const [bytes, message] of [
      [weights.length - 1000, "1000 bytes are missing"],
      [300, "truncated: the header ends at byte"],
      [5, "at least 8 bytes, this one has 5"],
    ] as const) {
      project.writeModel("cut", {}, { "model.safetensors": weights.subarray(0, bytes) })
      const error = await refusal(...settings({ model: "./cut" }))
      expect(error).toContain(`error: cannot load the model: ${project.path("cut/model.safetensors")}: `)
      expect(error).toContain(message)
    }
  })

  test("a dtype that weights cannot have", async () => {
    const text = Buffer.from(weights).toString("latin1").replace('"dtype":"F32"', '"dtype":"I32"')
    project.writeModel("integers", {}, { "model.safetensors": Buffer.from(text, "latin1") })
    expect(await refusal(...settings({ model: "./integers" }))).toMatch(
      /integers\/model\.safetensors: tensor "model\.\S+" is I32; weights must be F32, F16 or BF16\n$/,
    )
  })

  test("weights of another shape", async () => {
    project.writeModel("narrow", { intermediate_size: 40 }, { "model.safetensors": weights })
    expect(await refusal(...settings({ model: "./narrow" }))).toMatch(
      /narrow\/model\.safetensors: tensor "model\.layers\.0\.mlp\.gate_proj\.weight" has shape \[48, 32\], but config\.json asks for \[40, 32\]\n$/,
    )
  })

  test("a tokenizer of another model", async () => {
    const { tokenizer } = characterTokenizer("0123456789+-=abcdef", { bos: "<s>", eos: "</s>" })
    project.writeModel("foreign", {}, { "tokenizer.json": new TextEncoder().encode(JSON.stringify(tokenizer)) })
    expect(await refusal(...settings({ model: "./foreign" }))).toBe(
      `error: cannot load the model: ${project.path("foreign/tokenizer.json")}: has token ids up to 20, but the model's ` +
        "vocab_size is 15; this is the tokenizer of another model\n",
    )
  })

  test("a prompt that the tokenizer cannot express", async () => {
    project.write({ "letters.jsonl": `${rows(6)}{"prompt":"two+2=","answer":4}\n` })
    const error = await refusal(
      ...settings({ "task.options.train": "letters.jsonl", promptsPerStep: 7, stepsPerGeneration: 1, evalSteps: 0 }),
    )
    expect(error).toMatch(/^error: Row 6 of task "jsonl": \S+tokenizer\.json: "t" is not in the vocabulary/)
  })
})

describe("a configuration is refused at file, line and key", () => {
  test("an unknown key, with the one that was meant", async () => {
    project.write({ "unknown.yaml": `${configs.grpo}\nlerning_rate: 1e-4\n` })
    const line = configs.grpo.split("\n").length + 1
    expect(await refusal("--config", "unknown.yaml")).toBe(
      `error: unknown.yaml:${line}:1  lerning_rate: unknown key; did you mean "learningRate"?\n`,
    )
  })

  test("a wrong type", async () => {
    project.write({
      "types.json":
        '{\n  "model": "./tiny",\n  "rewards": [\n    { "use": "./sevens.ts", "weight": "heavy" }\n  ]\n}\n',
    })
    expect(await refusal("--config", "types.json")).toBe(
      'error: types.json:4:29  rewards[0].weight: expected number, got "heavy"\n',
    )
  })

  test("several mistakes at once", async () => {
    expect(await refusal(...settings({ topP: 2, adapter: "cuda" }))).toMatch(
      /^error: the configuration has 2 problems\n( {2}--set \S+ {2}\S.+\n){2}$/,
    )
  })
})

describe("a data set is refused by its row", () => {
  test("without the column of prompts", async () => {
    project.write({ "questions.jsonl": '{"prompt":"1=","answer":1}\n\n{"question":"2=","answer":2}\n' })
    expect(await refusal(...settings({ "task.options.train": "questions.jsonl" }))).toBe(
      `error: task: the task "jsonl" cannot start: ${project.path("questions.jsonl")}:3: the column "prompt" is missing; ` +
        'the row has "question", "answer"\n',
    )
  })

  test("without a column that the reward needs", async () => {
    project.write({ "answers.jsonl": '{"prompt":"1=","answer":1}\n{"prompt":"2="}\n' })
    const named = settings({ "task.options.train": "answers.jsonl", "task.options.columns": ["answer"] })
    expect(await refusal("--run-name", "mine", ...named)).toBe(
      `error: task: the task "jsonl" cannot start: ${project.path("answers.jsonl")}:2: the column "answer" is missing, ` +
        "which options.columns asks for\n",
    )
  })

  test("that is not JSON, and with too few rows", async () => {
    project.write({ "broken.jsonl": '{"prompt":"1="}\n{"prompt":\n' })
    expect(await refusal(...settings({ "task.options.train": "broken.jsonl" }))).toContain(
      "broken.jsonl:2: not valid JSON",
    )
    project.write({ "few.jsonl": rows(3) })
    expect(await refusal(...settings({ "task.options.train": "few.jsonl" }))).toBe(
      'error: Task "jsonl" has 3 rows to train on, fewer than promptsPerStep 6.\n',
    )
  })

  test("with a prompt longer than the context", async () => {
    project.write({ "long.jsonl": `${rows(5)}{"prompt":"${"1+".repeat(40)}1="}\n` })
    expect(await refusal(...settings({ "task.options.train": "long.jsonl", evalSteps: 0 }))).toBe(
      'error: Row 5 of task "jsonl": its prompt has 83 tokens, but a context of 64 less maxCompletionLength 12 leaves 52. ' +
        "Remove the row or lower maxCompletionLength.\n",
    )
  })
})

describe("a reward is refused by its name", () => {
  const reward = (score: string) =>
    `import { defineReward } from "@rlpt/core"\nexport default defineReward({ name: "mine", score: ${score} })\n`

  test("that is not installed, or not there", async () => {
    expect(await refusal(...settings({ rewards: ["arithmetik"] }))).toMatch(
      /^error: --set \S+ {2}rewards\[0\]\.use: there is no reward "arithmetik"; did you mean "arithmetic"\?.* bun add \S+\n$/,
    )
    expect(await refusal(...settings({ rewards: ["./none.ts"] }))).toContain(
      `rewards[0].use: ${project.path("none.ts")} does not exist`,
    )
  })

  test("that throws when it is imported, or is no reward", async () => {
    project.write({ "throws.ts": 'throw new Error("the answer sheet is gone")', "three.ts": "export default 3" })
    expect(await refusal(...settings({ rewards: ["./throws.ts"] }))).toContain(
      "throws.ts cannot be imported: the answer sheet is gone",
    )
    expect(await refusal(...settings({ rewards: ["./three.ts"] }))).toContain(
      "three.ts must export default defineReward({ ... }); it exports a value of type number",
    )
  })

  test.each([
    ["throws", '() => { throw new Error("the answer sheet is gone") }', "the answer sheet is gone"],
    ["rejects", 'async () => { throw new Error("no such judge") }', "no such judge"],
    ["gives NaN", "() => NaN", "it gave NaN instead of a finite number or null"],
    ["gives a text", '() => "good"', "it gave a value of type string instead of a finite number or null"],
    ["never returns", "() => new Promise(() => {})", "it gave no score within 0.3 s"],
  ])("that %s", async (_, score, message) => {
    project.write({ "mine.ts": reward(score) })
    const rewards = [{ use: "./mine.ts", timeout: 0.3 }]
    expect(await refusal(...settings({ rewards }))).toBe(
      `error: the reward "mine" failed on every sample: ${message}\n`,
    )
  })

  test("that never gives control back: the process is ended, and the run can go on", async () => {
    project.write({ "mine.ts": reward("() => { for (;;) {} }") })
    const rewards = [{ use: "./mine.ts", timeout: 0.5 }]
    const stuck = await project.rlpt(
      "train",
      "--run-name",
      "stuck",
      ...settings({ rewards, evalSteps: 0, maxSteps: 1 }),
    )
    expect(stuck.errors).toBe(
      'error: the reward "mine" has not given control back for 0.5 s, and cannot be stopped any other way: the run is ended. ' +
        "Mend the reward, then go on by --resume.\n",
    )
    expect(stuck.code).toBe(137)
    project.write({ "mine.ts": reward("({ completion }) => completion.length") })
    const mended = await project.rlpt("train", "--resume", "stuck")
    expect({ code: mended.code, errors: mended.errors }).toEqual({ code: 0, errors: "" })
    expect(project.run("stuck").lastStep).toBe(1)
  })

  test("that fails on some samples, if the configuration says so; else they go without", async () => {
    project.write({
      "mine.ts": reward('({ completion }) => { if (completion.includes("7")) throw new Error("no sevens"); return 1 }'),
    })
    const fails = settings({ rewards: [{ use: "./mine.ts", onError: "fail" }], evalSteps: 0 })
    expect(await refusal(...fails)).toBe('error: the reward "mine" failed: no sevens\n')

    const survives = settings({ rewards: ["./mine.ts"], evalSteps: 0, maxSteps: 1 })
    const { code, errors } = await project.rlpt("train", "--run-name", "survivor", ...survives)
    expect(errors).toMatch(/^warning: the reward "mine" failed on \d+ of 24 samples: no sevens\n$/)
    expect(code).toBe(0)
    const samples = project.run("survivor")
    expect(samples.lastStep).toBe(1)
  })

  test("that fails only later: the run keeps its last checkpoint and goes on when it is mended", async () => {
    const source = (step: number) =>
      reward(`() => { if (++calls > ${step} * 24) throw new Error("tired"); return calls % 3 }`) + "let calls = 0\n"
    project.write({ "mine.ts": source(5) })
    const args = settings({ rewards: ["./mine.ts"], evalSteps: 0, maxSteps: 7 })
    const failed = await project.rlpt("train", "--run-name", "late", ...args)
    expect(failed.errors).toBe(
      'run late stopped; go on by: rlpt train --resume late\nerror: the reward "mine" failed on every sample: tired\n',
    )
    expect(failed.code).toBe(1)
    const late = project.run("late")
    expect([late.lastStep, late.checkpoints]).toEqual([5, [2, 4]])
    project.write({ "mine.ts": source(1000) })
    const mended = await project.rlpt("train", "--resume", "late")
    expect(mended.output).toContain("going on after step 4\n")
    expect([mended.code, late.lastStep, late.checkpoints]).toEqual([0, 7, [4, 6, 7]])
  })
})

describe("a run is refused by its name", () => {
  test("that is taken, and one that is missing", async () => {
    project.write({ "runs/taken/config.json": "{}" })
    const { code, errors } = await project.rlpt("train", "--run-name", "taken")
    expect(errors).toBe(
      "error: run taken exists already: go on with it by --resume taken, or choose another --run-name\n",
    )
    expect(code).toBe(1)
    const missing = await project.rlpt("train", "--resume", "lost")
    expect(missing.errors).toBe(
      `error: no run at ${project.path("runs/lost")}: it has no config.json. Runs in runs: taken\n`,
    )
    expect(missing.code).toBe(1)
  })

  test("that another process is writing; and it is not disturbed", async () => {
    const child = project.spawn("train", "--run-name", "busy", ...settings({ maxSteps: 100_000 }))
    const run = project.run("busy")
    await run.until(1, child)
    const { code, errors } = await project.rlpt("train", "--resume", "busy")
    expect(errors).toBe("error: run busy is being written by another process: wait for it, or end it first\n")
    expect(code).toBe(1)
    await run.until(run.lastStep + 1, child)
    child.kill("SIGKILL")
    expect((await outcome(child)).errors).toBe("")
  })
})
