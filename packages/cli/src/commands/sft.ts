import { Effect } from "effect"
import { Command } from "effect/cli"
import { sft } from "@rlpt/algos"
import { PolicyInfo } from "@rlpt/engines"
import { loadSftConfig } from "../config/load.ts"
import { sftEngines } from "../layers.ts"
import { prepareRun, trainingRun } from "../training-run.ts"
import * as flags from "./flags.ts"

export const sftCommand = Command.make(
  "sft",
  { config: flags.config, set: flags.set, resume: flags.resume, runName: flags.runName },
  Effect.fn(function* (input) {
    const prepared = yield* prepareRun(input, loadSftConfig)
    const { config, model } = prepared
    const program = Effect.flatMap(PolicyInfo, ({ contextLength }) =>
      sft({ ...config, maxLength: Math.min(config.maxLength, contextLength) }),
    )
    yield* trainingRun("sft", prepared, sftEngines(config, model), program)
  }, Effect.scoped),
).pipe(
  Command.withDescription("Fine-tune a model on the completions of a task"),
  Command.withExamples([
    { command: "rlpt sft --config sft.yaml", description: "Fine-tune as the file says" },
    {
      command: "rlpt sft --set task=arithmetic --set fromScratch=true --set model=./tiny",
      description: "Train the architecture of ./tiny/config.json from fresh weights",
    },
  ]),
)
