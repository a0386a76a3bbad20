import { Effect } from "effect"
import { Command } from "effect/cli"
import { rewardModel } from "@rlpt/algos"
import { PolicyInfo } from "@rlpt/engines"
import { loadRewardConfig } from "../config/load.ts"
import { rewardEngines } from "../layers.ts"
import { prepareRun, trainingRun } from "../training-run.ts"
import * as flags from "./flags.ts"

export const rewardCommand = Command.make(
  "reward",
  { config: flags.config, set: flags.set, resume: flags.resume, runName: flags.runName },
  Effect.fn(function* (input) {
    const prepared = yield* prepareRun(input, loadRewardConfig)
    const { config, model } = prepared
    // The place behind a text is where its reward is asked for.
    const program = Effect.flatMap(PolicyInfo, ({ contextLength, model: { configJson } }) => {
      const pad = configJson["pad_token_id"]
      return rewardModel({
        ...config,
        maxLength: Math.min(config.maxLength, contextLength - 1),
        ...(typeof pad === "number" && { padToken: pad }),
      })
    })
    yield* trainingRun("reward", prepared, rewardEngines(config, model), program)
  }, Effect.scoped),
).pipe(
  Command.withDescription("Train a reward model on pairs of a better and a worse completion"),
  Command.withExamples([
    { command: "rlpt reward --config reward.yaml", description: "Train as the file says" },
    {
      command: "rlpt train --set algorithm=ppo --set criticModel=runs/quiet-otter",
      description: "Start PPO's critic from what came out",
    },
  ]),
)
