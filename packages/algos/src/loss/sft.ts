import type { LossProgram } from "@rlpt/core"

/** Negative log-likelihood (nats) of each completion token. */
export const sftLoss: LossProgram = {
  name: "sft",
  outputs: ["logProbs"],
  fields: [],
  evaluate: ({ logProbs }) => ({ perToken: logProbs!.neg(), metrics: {} }),
}
