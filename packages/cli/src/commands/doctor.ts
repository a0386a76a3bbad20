import { Effect, FileSystem, Option, Path, Result } from "effect"
import { Command, Flag } from "effect/cli"
import { pluginApi } from "@rlpt/core"
import { GpuDevice } from "@rlpt/engines"
import { linearKernel, type Gpu } from "@rlpt/tensor"
import { adapterName, softwareWarning } from "../adapter.ts"
import { loadSftConfig, loadTrainConfig, type LoadOptions } from "../config/load.ts"
import { findConfigFile } from "../config/read.ts"
import { pluginRegistry, preparePlugins } from "../configured-plugins.ts"
import { CliFailure } from "../failure.ts"
import { findModels } from "../model-place.ts"
import { formatBytes } from "../view/format.ts"
import { bold, green, red, Screen, yellow } from "../view/screen.ts"
import { version } from "../version.ts"
import * as flags from "./flags.ts"

/** What was found out about one thing: facts, and warnings that nothing fails by. A failure is a problem. */
interface Finding {
  readonly facts: ReadonlyArray<string>
  readonly warnings?: ReadonlyArray<string>
}

interface Described {
  readonly message: string
}

export const doctorCommand = Command.make(
  "doctor",
  {
    config: flags.config,
    adapter: flags.adapter,
    tune: Flag.Boolean("tune").pipe(
      Flag.withDescription("Measure how fast kernels are on this adapter, and remember it"),
      Flag.withDefault(false),
    ),
  },
  Effect.fn(function* ({ adapter, config, tune }) {
    const screen = yield* Screen
    const checks: Readonly<Record<string, Effect.Effect<Finding, Described, FileSystem.FileSystem | Path.Path>>> = {
      runtime: checkRuntime,
      adapter: checkAdapter.pipe(
        Effect.provide(GpuDevice.layer({ adapter, ...(tune && { tune: "always" }), notify: () => {} })),
      ),
      plugins: checkPlugins,
      project: checkProject(Option.getOrUndefined(config)),
    }
    let problems = 0
    for (const [name, check] of Object.entries(checks)) {
      const result = yield* Effect.result(check)
      const { facts, warnings = [] } = Result.getOrElse(result, (error): Finding => ({ facts: [error.message] }))
      const failed = Result.isFailure(result)
      const mark = failed ? red(screen, "✗") : warnings.length > 0 ? yellow(screen, "!") : green(screen, "✓")
      const lines = [...facts, ...warnings.map((warning) => yellow(screen, warning))].join("\n").split("\n")
      yield* screen.print(`${mark} ${bold(screen, name.padEnd(8))} ${lines.join(`\n${" ".repeat(11)}`)}`)
      if (failed) problems++
    }
    if (problems > 0) {
      return yield* new CliFailure({
        message: problems === 1 ? "one thing to mend, see ✗ above" : `${problems} things to mend, see ✗ above`,
      })
    }
  }),
).pipe(
  Command.withDescription("Check this machine and this project, and say how to mend what is wrong"),
  Command.withExamples([
    { command: "rlpt doctor", description: "Check everything that rlpt train would use here" },
    { command: "rlpt doctor --adapter swiftshader", description: "Try one adapter" },
    { command: "rlpt doctor --tune", description: "Measure the kernels anew, after a change of hardware" },
  ]),
)

const checkRuntime: Effect.Effect<Finding> = Effect.sync(() => ({
  facts: [`rlpt ${version}, Bun ${process.versions.bun}, ${process.platform} ${process.arch}`],
}))

/** How kernels are chosen here. They differ in speed, not in their results. */
const kernelFacts = (gpu: Gpu): ReadonlyArray<string> => {
  const { source, place, forms } = gpu.tuning
  const origin = {
    measured: `measured just now, ${place === undefined ? "not remembered" : `remembered in ${place}`}`,
    remembered: `measured before, remembered in ${place}`,
    known: "speeds known of this driver (rlpt doctor --tune measures them)",
    assumed: "speeds assumed (rlpt doctor --tune measures them)",
  }[source]
  return [
    `kernels: ${origin}`,
    `  large products by ${linearKernel(gpu, 1024, 1024, 1024)}`,
    `  eight rows by ${linearKernel(gpu, 8, 1024, 1024)}`,
    `  attention by ${forms.attention}, rows ${forms.rows}`,
  ]
}

/** Opens the adapter and lets it compute something. */
const checkAdapter = Effect.gen(function* () {
  const gpu = yield* GpuDevice
  const {
    adapter: info,
    device: { limits },
  } = gpu
  const sum = yield* Effect.tryPromise({
    try: () => gpu.tensor([1, 2]).sum().item(),
    catch: (cause) => new CliFailure({ message: `${adapterName(info)} cannot compute: ${String(cause)}` }),
  })
  if (sum !== 3)
    return yield* new CliFailure({ message: `${adapterName(info)} computes 1 + 2 = ${sum}: update its driver` })
  const warning = softwareWarning(info)
  return {
    facts: [
      info.processor ? `${adapterName(info)} on ${info.processor.model}` : adapterName(info),
      `buffers up to ${formatBytes(limits.maxBufferSize)}, bindings up to ${formatBytes(limits.maxStorageBufferBindingSize)}`,
      info.subgroupMaxSize > 0 ? `subgroups of ${info.subgroupMinSize} to ${info.subgroupMaxSize}` : "no subgroups",
      ...kernelFacts(gpu),
    ],
    warnings: [
      ...(warning === undefined ? [] : [warning]),
      ...gpu.tuning.wrong.map(
        ({ kernel, reason }) => `the kernel "${kernel}" is wrong here and is not used: ${reason}`,
      ),
    ],
  } satisfies Finding
})

const checkPlugins = Effect.gen(function* () {
  const path = yield* Path.Path
  const { broken, missing, plugins } = yield* pluginRegistry(path.resolve())
  const old = plugins.filter(({ api }) => api !== pluginApi)
  return {
    facts: [`${plugins.length} found (rlpt plugins list)`],
    warnings: [
      ...old.map(
        ({ api, package: name }) => `${name} is for plugin API ${api}, this rlpt has ${pluginApi}: update one of them`,
      ),
      ...[...broken].map(([name, reason]) => `${name} cannot be used: ${reason}`),
      ...[...missing].map((name) => `${name} is not installed: run bun install`),
    ],
  } satisfies Finding
})

/** The configuration as `rlpt train` reads it, or as `rlpt sft` does if only that one takes it. */
const loadAnyConfig = (options: LoadOptions) =>
  loadTrainConfig(options).pipe(Effect.catch((error) => loadSftConfig(options).pipe(Effect.mapError(() => error))))

/** Everything that `rlpt train` checks before it starts. */
const checkProject = Effect.fnUntraced(function* (file: string | undefined) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const directory = path.resolve()
  const { config, origin } = yield* loadAnyConfig({ directory, file, set: [] })
  yield* preparePlugins(yield* pluginRegistry(config.root), { config, origin })
  const { adapter, model } = yield* findModels({ config, origin })
  yield* fs
    .access(directory, { writable: true })
    .pipe(Effect.mapError(() => new CliFailure({ message: `${directory} cannot be written: runs have no place here` })))
  const found = file ?? (yield* findConfigFile(directory))
  return {
    facts: [
      found === undefined
        ? "no rlpt.config.* here: rlpt train takes its defaults"
        : `${path.relative(directory, path.resolve(found))} is valid`,
      adapter === undefined ? `model ${model}` : `model ${model} with the adapter ${adapter}`,
    ],
  } satisfies Finding
})
