import type { TrainConfig } from "./schema.ts"

/**
 * What `rlpt train` does where no configuration file is: the built-in model learns arithmetic, with figures chosen so
 * that it visibly improves within minutes on a laptop.
 */
export const quickStart: Partial<typeof TrainConfig.Encoded> = {
  task: "arithmetic",
  rewards: ["arithmetic"],
  algorithm: "grpo",
  maxCompletionLength: 16,
  learningRate: 1e-4,
  evalSteps: 25,
}
