import { Command } from "effect/cli"
import { doctorCommand } from "./doctor.ts"
import { evalCommand } from "./eval.ts"
import { generateCommand } from "./generate.ts"
import { initCommand } from "./init.ts"
import { planCommand } from "./plan.ts"
import { pluginsCommand } from "./plugins.ts"
import { rewardCommand } from "./reward.ts"
import { sftCommand } from "./sft.ts"
import { trainCommand } from "./train.ts"

/** The whole command line. */
export const rlpt = Command.make("rlpt").pipe(
  Command.withDescription("Post-train language models with reinforcement learning, on any GPU"),
  Command.withSubcommands([
    trainCommand,
    sftCommand,
    rewardCommand,
    evalCommand,
    generateCommand,
    initCommand,
    planCommand,
    doctorCommand,
    pluginsCommand,
  ]),
  Command.withExamples([
    { command: "rlpt train", description: "Teach the built-in model arithmetic" },
    { command: "rlpt init", description: "Start a project of your own" },
    { command: "rlpt doctor", description: "See what this machine can do" },
  ]),
)
