/**
 * Times @rlpt/tensor against the other WebGPU libraries on one adapter, in one process, round by round; prints medians and
 * ratios. `--save` writes results/<adapter>.md and .json. docs/benchmarks.md tells how it measures.
 *
 *   bun install && bun run.ts [--adapter lavapipe|swiftshader|gpu] [--only <regular expression>] [--rounds 11]
 *                             [--seconds 20] [--without jax-js,tfjs] [--save]
 */
import { mkdirSync, writeFileSync } from "node:fs"
import { loadavg } from "node:os"
import { parseArgs } from "node:util"
import { openDevice, type AdapterInfo, type AdapterKind } from "@rlpt/tensor"
import type { Contender } from "./contender.ts"
import { enterBrowser } from "./environment.ts"
import { measure, type Measured } from "./measure.ts"
import { measurePeak } from "./peak.ts"
import { report, tableOf } from "./report.ts"
import { workloads, type Workload } from "./workloads.ts"

const { values } = parseArgs({
  options: {
    adapter: { type: "string", default: "auto" },
    only: { type: "string", default: "" },
    rounds: { type: "string", default: "11" },
    seconds: { type: "string", default: "20" },
    without: { type: "string", default: "" },
    save: { type: "boolean", default: false },
  },
})

const adapter = await enterBrowser(values.adapter as AdapterKind | "auto")
// The peers read `navigator` when they are loaded.
const opened: readonly (readonly [string, () => Promise<Contender>])[] = [
  ["@rlpt/tensor", async () => (await import("./peers/rlpt.ts")).openRlpt()],
  ["jax-js", async () => (await import("./peers/jax.ts")).openJax()],
  ["tfjs", async () => (await import("./peers/tfjs.ts")).openTfjs()],
  ["ONNX Runtime Web", async () => (await import("./peers/ort.ts")).openOrt()],
]
const without = values.without.split(",")
const contenders: Contender[] = []
for (const [name, open] of opened) {
  if (without.includes(name)) continue
  try {
    contenders.push(await open())
  } catch (error) {
    console.log(`${name} does not run here: ${error instanceof Error ? error.message : String(error)}`)
  }
}

/** On SwiftShader the slowest peer takes minutes for one product of matrices above 512: those are run if asked for. */
const suits = (workload: Workload, { kind }: AdapterInfo): boolean =>
  kind !== "swiftshader" || workload.kind !== "matmul" || workload.flops <= 2 * 512 ** 3

const measured: Measured[] = []
const load = loadavg()
const peak = await measurePeak(await openDevice())
const chosen = workloads.filter(
  (workload) => new RegExp(values.only, "i").test(workload.name) && (values.only !== "" || suits(workload, adapter)),
)
for (const workload of chosen) {
  const result = await measure(workload, contenders, { rounds: Number(values.rounds), seconds: Number(values.seconds) })
  measured.push(result)
  console.log(tableOf([result], peak, measured.length === 1))
}
const full = report({
  measured,
  peak,
  adapter,
  load: [load, loadavg()],
  contenders,
  rounds: Number(values.rounds),
})
if (values.save) {
  const folder = new URL("results/", import.meta.url)
  mkdirSync(folder, { recursive: true })
  writeFileSync(new URL(`${adapter.kind}.json`, folder), `${JSON.stringify(full.json, undefined, 1)}\n`)
  writeFileSync(new URL(`${adapter.kind}.md`, folder), full.markdown)
}
console.log(`\n${full.markdown}`)
process.exit(0)
