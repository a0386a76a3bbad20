/**
 * Times a small Llama in rlpt on WebGPU, in transformers on PyTorch's CPU and in llama.cpp on the CPU: prefill, decoding
 * and a training step, round by round. A peer that is not installed is left out with a message. From test/bench/models:
 *
 *   bun install                                         # llama.cpp
 *   pip install torch transformers gguf                 # in a virtual environment
 *   bun run.ts [--python <its interpreter, or RLPT_BENCH_PYTHON>] [--only <regular expression>] [--rounds 9]
 *              [--seconds 60] [--save]
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { loadavg, tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { openContender, type Contender } from "./contender.ts"
import { measure, type Measured } from "./measure.ts"
import { writeModel } from "./model.ts"
import type { Limits } from "./protocol.ts"
import { report, tableOf } from "./report.ts"
import { llama, workloads } from "./workloads.ts"

const { values } = parseArgs({
  options: {
    python: { type: "string", default: process.env["RLPT_BENCH_PYTHON"] ?? "python3" },
    only: { type: "string", default: "" },
    rounds: { type: "string", default: "9" },
    seconds: { type: "string", default: "60" },
    save: { type: "boolean", default: false },
  },
})

const explain = (error: unknown) => (error instanceof Error ? error.message : String(error))
const here = (file: string) => join(import.meta.dirname, file)

/** The model as a GGUF file, by the `gguf` package of Python. */
const writeGguf = async (directory: string, file: string): Promise<string> => {
  const child = Bun.spawn([values.python, here("gguf_of.py"), directory, file], { stdout: "ignore", stderr: "pipe" })
  const complaint = await new Response(child.stderr).text()
  if ((await child.exited) !== 0) throw new Error(complaint.trim().split("\n").at(-1))
  return file
}

const save = ({ markdown, json }: ReturnType<typeof report>): void => {
  const results = here("../results")
  mkdirSync(results, { recursive: true })
  writeFileSync(join(results, "models.json"), `${JSON.stringify(json, undefined, 1)}\n`)
  writeFileSync(join(results, "models.md"), markdown)
}

const folder = mkdtempSync(join(tmpdir(), "rlpt-bench-"))
const contenders: Contender[] = []
try {
  const directory = join(folder, "model")
  await writeModel(llama, directory)
  const bun = [process.execPath, "run"]
  const opened: readonly (readonly [string, () => Promise<Contender>])[] = [
    ["rlpt", () => openContender("rlpt", [...bun, here("contenders/rlpt.ts"), directory])],
    ["PyTorch", () => openContender("PyTorch", [values.python, here("contenders/pytorch.py"), directory])],
    [
      "llama.cpp",
      async () => {
        const file = await writeGguf(directory, join(folder, "model.gguf"))
        return openContender("llama.cpp", [...bun, here("contenders/llama-cpp.ts"), file])
      },
    ],
  ]
  for (const [name, open] of opened) {
    try {
      contenders.push(await open())
    } catch (error) {
      console.log(`${name} does not run here and is left out: ${explain(error)}`)
    }
  }

  const load = loadavg()
  const limits: Record<string, Limits> = {}
  for (const { name, limits: ask } of contenders) limits[name] = await ask()
  const measured: Measured[] = []
  for (const workload of workloads.filter(({ name }) => new RegExp(values.only, "i").test(name))) {
    const result = await measure(workload, contenders, {
      rounds: Number(values.rounds),
      seconds: Number(values.seconds),
    })
    measured.push(result)
    console.log(tableOf([result], measured.length === 1))
    // After each: a run that is cut short keeps what it has.
    if (values.save) save(report({ measured, contenders, limits, load: [load, loadavg()] }))
  }
  console.log(`\n${report({ measured, contenders, limits, load: [load, loadavg()] }).markdown}`)
} finally {
  for (const contender of contenders) await contender.close()
  rmSync(folder, { recursive: true, force: true })
}
