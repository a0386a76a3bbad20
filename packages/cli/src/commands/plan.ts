import { totalmem } from "node:os"
import { Effect, Layer, Option, Path } from "effect"
import { Command, Flag } from "effect/cli"
import { Task } from "@rlpt/core"
import { GpuDevice } from "@rlpt/engines"
import { adapterName } from "../adapter.ts"
import { loadSftConfig, loadTrainConfig } from "../config/load.ts"
import { pluginRegistry, preparePlugins } from "../configured-plugins.ts"
import { CliFailure } from "../failure.ts"
import { taskLayer } from "../layers.ts"
import { findModels } from "../model-place.ts"
import { largestMicroBatch, planRun, type Plan } from "../plan/plan.ts"
import type { Rehearsed } from "../plan/rehearse.ts"
import { formatBytes, formatCount, parseBytes } from "../view/format.ts"
import { Screen } from "../view/screen.ts"
import * as flags from "./flags.ts"

export const planCommand = Command.make(
  "plan",
  {
    config: flags.config,
    set: flags.set,
    sft: Flag.Boolean("sft").pipe(
      Flag.withDescription("Plan rlpt sft rather than rlpt train"),
      Flag.withDefault(false),
    ),
    memory: Flag.String("memory").pipe(
      Flag.withMetavar("size"),
      Flag.withDescription("Memory to fit in, as in 24GiB (default: this machine's, where a CPU computes)"),
      Flag.optional,
    ),
    maxBinding: Flag.String("max-binding").pipe(
      Flag.withMetavar("size"),
      Flag.withDescription("Largest tensor that the adapter can bind, as doctor says (default: this machine's)"),
      Flag.optional,
    ),
    completionLength: Flag.Finite("completion-length").pipe(
      Flag.withMetavar("tokens"),
      Flag.withDescription("Mean length of completions to reckon with (default: maxCompletionLength)"),
      Flag.optional,
    ),
    json: flags.json,
  },
  Effect.fn(function* ({ completionLength, config: file, json, maxBinding, memory, set, sft }) {
    const screen = yield* Screen
    const limit = yield* Effect.transposeOption(Option.map(memory, readSize("--memory")))
    const maxBindingSize = Option.getOrUndefined(
      yield* Effect.transposeOption(Option.map(maxBinding, readSize("--max-binding"))),
    )
    const run = yield* prepare({ file: Option.getOrUndefined(file), set }, sft, Option.getOrUndefined(completionLength))
    const report = yield* Effect.gen(function* () {
      const gpu = yield* GpuDevice
      const plan = yield* planRun(run, gpu, { maxBindingSize })
      const available = Option.getOrUndefined(limit) ?? (gpu.adapter.isSoftware ? totalmem() : undefined)
      if (available === undefined) return { adapter: adapterName(gpu.adapter), ...plan }
      const microBatchSize = yield* largestMicroBatch(run, gpu, available, { maxBindingSize })
      return { adapter: adapterName(gpu.adapter), ...plan, memory: available, largestMicroBatchSize: microBatchSize }
    }).pipe(Effect.provide(GpuDevice.layer({ adapter: run.config.adapter })))
    if (json) return yield* screen.print(JSON.stringify(report))
    yield* Effect.forEach(describe(run, report), (line) => screen.print(line))
  }, Effect.scoped),
).pipe(
  Command.withDescription("Say what memory a run takes, and the largest micro-batch that fits, without taking any"),
  Command.withExamples([
    { command: "rlpt plan --config grpo.yaml --memory 24GiB --max-binding 2GiB", description: "Before renting a GPU" },
    { command: "rlpt plan --set gradientCheckpointing=true", description: "See what recomputing saves" },
  ]),
)

/** Reads what would be run, as far as it takes to rehearse it. */
const prepare = Effect.fnUntraced(function* (
  { file, set }: { readonly file: string | undefined; readonly set: ReadonlyArray<string> },
  sft: boolean,
  completionLength: number | undefined,
) {
  const path = yield* Path.Path
  const options = { directory: path.resolve(), file, set }
  const source = sft
    ? { command: "sft" as const, ...(yield* loadSftConfig(options)) }
    : { command: "train" as const, ...(yield* loadTrainConfig(options)) }
  const { config, origin } = source
  const plugins = yield* preparePlugins(yield* pluginRegistry(config.root), { config, origin })
  const model = yield* findModels({ config, origin })
  const context = { directory: config.root, runDirectory: path.resolve(config.outputDir) }
  const task = yield* Task.pipe(Effect.provide(yield* Layer.build(taskLayer(plugins, context))))
  if (source.command === "sft") return { command: source.command, config: source.config, model, task } as const
  const { maxCompletionLength } = source.config
  const length = Math.min(completionLength ?? maxCompletionLength, maxCompletionLength)
  return { command: source.command, config: source.config, model, task, completionLength: length } as const
})

const readSize = (flag: string) => (text: string) => {
  const bytes = parseBytes(text)
  return bytes === undefined
    ? new CliFailure({ message: `${flag}: expected a size such as 24GiB or 512MiB, got "${text}"` })
    : Effect.succeed(bytes)
}

interface Report extends Plan {
  readonly adapter: string
  readonly memory?: number
  readonly largestMicroBatchSize?: number
}

const describe = (run: Rehearsed, report: Report): ReadonlyArray<string> => {
  const { adapter, parameters, trainable, peak, memory, largestMicroBatchSize: largest } = report
  const trained = trainable === parameters ? "" : ` (${formatCount(trainable)} trained)`
  const { microBatchSize } = run.config
  const bytes: Readonly<Record<string, number>> = {
    weights: report.weights,
    gradients: report.gradients,
    optimizer: report.optimizer,
    activations: report.activations,
    "KV cache": report.kvCache,
    "log-prob chunk": report.logProbChunk,
    other: report.other,
  }
  const line = (name: string, size: number) => `${name.padEnd(16)}${formatBytes(size).padStart(9)}`
  const fit =
    memory === undefined
      ? "to see which microBatchSize fits, say how much there is: --memory 24GiB"
      : largest === 0
        ? `no microBatchSize fits in ${formatBytes(memory)}`
        : `the largest microBatchSize in ${formatBytes(memory)} is ${largest}`
  return [
    `${run.model.adapter ?? run.model.model} · ${formatCount(parameters)} parameters${trained} · ${adapter}`,
    ...Object.entries(bytes).map(([name, size]) => line(name, size)),
    `${line("peak", peak)}  with microBatchSize ${microBatchSize}`,
    fit,
  ]
}
