import { Effect, Option, Path } from "effect"
import { Command } from "effect/cli"
import { evaluate } from "@rlpt/algos"
import { loadTrainConfig } from "../config/load.ts"
import { pluginRegistry, preparePlugins } from "../configured-plugins.ts"
import { samplingEngines, taskLayer } from "../layers.ts"
import { findModel } from "../model-place.ts"
import { formatNumber } from "../view/format.ts"
import { Screen } from "../view/screen.ts"
import * as flags from "./flags.ts"

export const evalCommand = Command.make(
  "eval",
  { config: flags.config, set: flags.set, model: flags.model, json: flags.json },
  Effect.fn(function* ({ config: file, json, model, set }) {
    const path = yield* Path.Path
    const directory = path.resolve()
    const { config, origin } = yield* loadTrainConfig({ directory, file: Option.getOrUndefined(file), set })
    const plugins = yield* preparePlugins(yield* pluginRegistry(config.root), { config, origin })
    const chosen = yield* Option.match(model, {
      onNone: () => findModel({ model: config.model, root: config.root, origin: origin(["model"]) }),
      onSome: (flag) => findModel({ model: flag, root: directory, origin: "--model" }),
    })
    const { metrics } = yield* evaluate(config).pipe(
      Effect.provide([
        taskLayer(plugins, { directory: config.root, runDirectory: path.resolve(config.outputDir) }),
        samplingEngines(config.adapter, chosen, config.contextLength),
      ]),
    )
    const screen = yield* Screen
    if (json) return yield* screen.print(JSON.stringify(metrics))
    const width = Math.max(...Object.keys(metrics).map((name) => name.length))
    for (const [name, value] of Object.entries(metrics)) {
      yield* screen.print(`${name.padEnd(width)}  ${formatNumber(value)}`)
    }
  }),
).pipe(
  Command.withDescription("Answer the held-out rows of a task greedily and score the answers"),
  Command.withExamples([
    { command: "rlpt eval", description: "Judge the model of the rlpt.config.* here, before training" },
    {
      command: "rlpt eval --model runs/quiet-otter/model --set evalSize=200",
      description: "Judge what a run made of it",
    },
  ]),
)
