import type { TrainConfig } from "./schema.ts"

/**
 * What `rlpt train` does where no configuration file is: the built-in model learns arithmetic, with figures chosen so
 * that it visibly improves within minutes on a laptop.
 */
export const quickStart: Partial<typeof TrainConfig.Encoded> = {
  task: "arithmetic",
  rewards: ["arithmetic"],
  algorithm: "grpo",
  maxSteps: 60,
  promptsPerStep: 32,
  numGenerations: 8,
  numIterations: 1,
  maxCompletionLength: 8,
  microBatchSize: 256,
  learningRate: 5e-4,
  evalSteps: 20,
  evalSize: 256,
  saveSteps: 20,
}
