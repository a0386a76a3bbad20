import { Effect } from "effect"
import { Command } from "effect/cli"
import { train } from "@rlpt/algos"
import { loadTrainConfig } from "../config/load.ts"
import { trainEngines } from "../layers.ts"
import { prepareRun, trainingRun } from "../training-run.ts"
import * as flags from "./flags.ts"

export const trainCommand = Command.make(
  "train",
  { config: flags.config, set: flags.set, resume: flags.resume, runName: flags.runName },
  Effect.fn(function* (input) {
    const prepared = yield* prepareRun(input, loadTrainConfig)
    const { config, model } = prepared
    yield* trainingRun("train", prepared, trainEngines(config, model), train(config))
  }, Effect.scoped),
).pipe(
  Command.withDescription("Train a model with reinforcement learning: sample, score, update, repeat"),
  Command.withExamples([
    { command: "rlpt train", description: "Teach the built-in model arithmetic, or run the rlpt.config.* here" },
    {
      command: "rlpt train --config grpo.yaml --set learningRate=2e-6",
      description: "Run a file, with one key changed",
    },
    { command: "rlpt train --resume quiet-otter", description: "Go on with a run that was stopped" },
  ]),
)
