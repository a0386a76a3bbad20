import { Effect, Layer, Option, Path } from "effect"
import { Policy, Task, type CheckpointStore, type Reward, type Tokenizer, type Tracker } from "@rlpt/core"
import {
  checkNewName,
  createRun,
  exportPolicyAdapter,
  GpuDevice,
  openRun,
  PolicyInfo,
  writeConfig,
  type CreateRun,
  type RunDirectory,
} from "@rlpt/engines"
import { adapterName, softwareWarning } from "./adapter.ts"
import type { LoadOptions, Loaded } from "./config/load.ts"
import type { TrainingConfig } from "./config/schema.ts"
import { pluginRegistry, preparePlugins, type PreparedPlugins } from "./configured-plugins.ts"
import { CliFailure } from "./failure.ts"
import { header } from "./view/header.ts"
import { runLayer } from "./layers.ts"
import { findModels, pinned, type TrainedPlaces } from "./model-place.ts"
import { bold, Screen } from "./view/screen.ts"
import { courseLine, readCourse } from "./view/summary.ts"

/** The default of `outputDir`. */
const runsFolder = "runs"

/** The flags of a command that trains. */
export interface TrainingFlags {
  readonly config: Option.Option<string>
  readonly set: ReadonlyArray<string>
  readonly resume: Option.Option<string>
  readonly runName: Option.Option<string>
}

/** A run whose configuration, plugins and model have been checked, and of which nothing has been written yet. */
export interface PreparedRun<C> {
  readonly config: C & { readonly root: string }
  readonly plugins: PreparedPlugins
  /** The model to start from. */
  readonly model: TrainedPlaces
  /** The run to go on with; nothing for a new one. */
  readonly resumed: RunDirectory | undefined
}

/** Reads and checks everything that the flags lead to. */
export const prepareRun = Effect.fn("prepareRun")(function* <C extends TrainingConfig, E, R>(
  flags: TrainingFlags,
  load: (options: LoadOptions) => Effect.Effect<Loaded<C>, E, R>,
) {
  const path = yield* Path.Path
  const directory = path.resolve()
  const set = [...flags.set, ...Option.toArray(flags.runName).map((name) => `runName=${JSON.stringify(name)}`)]
  const resumed = Option.isSome(flags.resume) ? yield* resume(flags, flags.resume.value, load) : undefined
  const file = resumed === undefined ? Option.getOrUndefined(flags.config) : path.join(resumed.path, "config.json")
  const { config, origin } = yield* load({ directory, file, set })
  if (resumed === undefined && config.runName !== undefined) yield* checkNewName(config.outputDir, config.runName)
  const plugins = yield* preparePlugins(yield* pluginRegistry(config.root), { config, origin })
  const model = yield* findModels({ config, origin })
  return { config: pinned(config, model), plugins, model, resumed } satisfies PreparedRun<C>
})

const resume = Effect.fnUntraced(function* <C extends TrainingConfig, E, R>(
  { config, runName }: TrainingFlags,
  run: string,
  load: (options: LoadOptions) => Effect.Effect<Loaded<C>, E, R>,
) {
  const path = yield* Path.Path
  if (Option.isSome(config)) {
    return yield* new CliFailure({ message: "--resume goes on with the run's own configuration: leave out --config" })
  }
  if (Option.isSome(runName)) {
    return yield* new CliFailure({ message: "--resume goes on with the run of that name: leave out --run-name" })
  }
  // The configuration here tells where runs are; that it is in order does not matter, since the run has its own.
  const outputDir = yield* load({ directory: path.resolve(), set: [] }).pipe(
    Effect.map((loaded) => loaded.config.outputDir),
    Effect.orElseSucceed(() => runsFolder),
  )
  return yield* openRun({ outputDir, run })
})

const newRun = (config: TrainingConfig): CreateRun => ({
  outputDir: config.outputDir,
  ...(config.runName !== undefined && { name: config.runName }),
  config,
})

/** What every run has. */
type Engines = Policy | Tokenizer | PolicyInfo | GpuDevice

/** What a training program may use besides the engines of its own. */
type Services = Engines | Task | Reward | CheckpointStore | Tracker

/** Starts or goes on with a run: trains, writes the model and says how it went. */
export const trainingRun = Effect.fn("trainingRun")(function* <C extends TrainingConfig, Own, E1, E2>(
  command: string,
  { config, model, plugins, resumed }: PreparedRun<C>,
  engines: Layer.Layer<Engines | Own, E1>,
  program: Effect.Effect<unknown, E2, Services | Own>,
) {
  const screen = yield* Screen
  // Before the run has a folder: a machine without a GPU should not collect empty ones.
  const models = yield* Layer.build(engines)
  const algorithm = "algorithm" in config ? config.algorithm : command
  const run = resumed ?? (yield* createRun(newRun(config)))
  if (resumed !== undefined) yield* writeConfig(resumed, config)

  yield* announceInterruption
  yield* Effect.gen(function* () {
    const { adapter } = yield* GpuDevice
    const { parameters, trainable } = yield* PolicyInfo
    const { name: task } = yield* Task
    const facts = { adapter: adapterName(adapter), task, algorithm, parameters, trainable, run: run.name }
    yield* screen.print(bold(screen, header(facts)))
    const warning = softwareWarning(adapter)
    if (warning !== undefined) yield* Effect.logWarning(warning)
    yield* program
    yield* run.writeModel(yield* Effect.flatMap(Policy, (policy) => policy.exportModel))
    const lora = yield* exportPolicyAdapter(model.name)
    if (lora !== undefined) yield* run.writeAdapter(lora)
    yield* summary(run, lora !== undefined, command)
  }).pipe(
    Effect.onError(() => Effect.andThen(screen.live(""), sayHowToGoOn(command, run, config.outputDir))),
    Effect.provide(runLayer(plugins, run, config.root, config.maxSteps)),
    Effect.provide(models),
  )
})

/** A run without metrics has nothing to go on with. */
const sayHowToGoOn = Effect.fnUntraced(function* (command: string, run: RunDirectory, outputDir: string) {
  if (!(yield* run.hasMetrics)) return
  const screen = yield* Screen
  // A name alone would be looked for where the configuration says, and not where --set outputDir did.
  const reference = outputDir === runsFolder ? run.name : run.path
  yield* screen.warn(`run ${run.name} stopped; go on by: rlpt ${command} --resume ${reference}`)
})

/** Says on Ctrl-C what is being waited for. */
const announceInterruption = Effect.gen(function* () {
  const screen = yield* Screen
  const run = Effect.runSyncWith(yield* Effect.context())
  const announce = () => run(screen.warn("stopping after this step; press Ctrl-C again to stop at once and lose it"))
  yield* Effect.acquireRelease(
    Effect.sync(() => void process.once("SIGINT", announce)),
    () => Effect.sync(() => void process.off("SIGINT", announce)),
  )
})

/** How the run went and what to do with it. */
const summary = Effect.fnUntraced(function* (run: RunDirectory, hasAdapter: boolean, command: string) {
  const screen = yield* Screen
  const path = yield* Path.Path
  const course = courseLine(yield* readCourse(path.join(run.path, "metrics.jsonl")))
  const lines = [
    ...(course === undefined ? [] : [bold(screen, course)]),
    `model    ${run.model}`,
    ...(hasAdapter ? [`adapter  ${run.adapter}`] : []),
    command === "reward"
      ? `use it   rlpt train --set algorithm=ppo --set criticModel=${run.path}`
      : `try it   rlpt generate --model ${run.model} ${yield* examplePrompt}`,
  ]
  yield* Effect.forEach(lines, screen.print)
})

/** The first held-out prompt of the task, as arguments; of a conversation its first question. */
const examplePrompt = Effect.gen(function* () {
  const { eval: heldOut, train } = yield* Task
  const { prompt } = yield* (heldOut ?? train).row(0)
  if (typeof prompt === "string") return JSON.stringify(prompt)
  const question = prompt.find(({ role, content }) => role === "user" && typeof content === "string")?.content
  return `--chat ${JSON.stringify(question ?? "…")}`
})
