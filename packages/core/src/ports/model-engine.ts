import { Context, Schema, type Effect } from "effect"
import type { LossBatch, LossProgram, LossReport } from "../loss.ts"
import type { TokenSequence } from "../trajectory.ts"

export class EngineError extends Schema.TaggedError<EngineError>()("EngineError", {
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {}

export interface OptimizerStep {
  readonly learningRate: number
  /** Global L2 norm to clip the gradient to; 0 does not clip. */
  readonly maxGradNorm: number
}

export interface OptimizerReport {
  /** L2 norm of the whole gradient before clipping. */
  readonly gradNorm: number
  /** False when the gradient was not finite: the weights were then left as they were. */
  readonly applied: boolean
}

/** Named arrays and numbers that restore an engine bit for bit. `files` are safetensors by file name. */
export interface EngineState {
  readonly files: Readonly<Record<string, Uint8Array>>
}

/** One model: its forward pass and, if it is trained, its gradient and optimiser. */
export interface ModelEngine {
  /** log π(token) of each completion token, by sequence; logits are divided by `temperature` first. */
  readonly logProbs: (
    sequences: ReadonlyArray<TokenSequence>,
    temperature: number,
  ) => Effect.Effect<ReadonlyArray<Float32Array>, EngineError>
  /** The value head's estimate before each completion token, by sequence. Fails for a model without a value head. */
  readonly values: (sequences: ReadonlyArray<TokenSequence>) => Effect.Effect<ReadonlyArray<Float32Array>, EngineError>
  /** Adds the gradient of Σ weight · loss to what has been accumulated since the last {@link step}. */
  readonly accumulate: (batch: LossBatch, loss: LossProgram) => Effect.Effect<LossReport, EngineError>
  /** Clips, applies and clears the accumulated gradient. */
  readonly step: (options: OptimizerStep) => Effect.Effect<OptimizerReport, EngineError>
  /** Weights, optimiser moments and step counter. */
  readonly exportState: Effect.Effect<EngineState, EngineError>
  readonly restoreState: (state: EngineState) => Effect.Effect<void, EngineError>
  /** The model as files of a Hugging Face directory, by file name. */
  readonly exportModel: Effect.Effect<Readonly<Record<string, Uint8Array>>, EngineError>
}

/** The model that is trained and sampled from. */
export class Policy extends Context.Service<Policy, ModelEngine>()("@rlpt/core/Policy") {}

/** The frozen model that KL terms compare with. */
export class Reference extends Context.Service<Reference, Pick<ModelEngine, "logProbs">>()("@rlpt/core/Reference") {}

/** The value model of PPO. */
export class Critic extends Context.Service<Critic, ModelEngine>()("@rlpt/core/Critic") {}
