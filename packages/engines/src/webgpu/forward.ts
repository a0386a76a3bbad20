import type { Model, PassOptions } from "@rlpt/models"
import { embedding, type Gpu, type Tensor } from "@rlpt/tensor"
import type { PackedBatch } from "./batch.ts"

/** A packed batch on the GPU, in the order in which recorded programs take it. */
export const batchInputs = (gpu: Gpu, batch: PackedBatch): readonly [Tensor, Tensor, Tensor, Tensor, Tensor] => [
  gpu.tensor(batch.tokens, [batch.tokens.length], "batch"),
  gpu.tensor(batch.positions, [batch.positions.length], "batch"),
  gpu.tensor(batch.spans, [batch.positions.length, 4], "batch"),
  gpu.tensor(batch.scored, [batch.scored.length], "batch"),
  gpu.tensor(batch.targets, [batch.targets.length], "batch"),
]

/** Hidden states that predict the scored tokens, f32 [M, D]. */
export const scoredHidden = (
  { decoder, parameters }: Model,
  tokens: Tensor,
  positions: Tensor,
  spans: Tensor,
  scored: Tensor,
  pass?: PassOptions,
): Tensor => embedding(decoder.hidden(parameters, { tokens, positions, spans }, pass), scored)

/** Runs `use` on tensors and frees them afterwards. */
export const withTensors = async <A>(tensors: readonly Tensor[], use: () => Promise<A>): Promise<A> => {
  try {
    return await use()
  } finally {
    for (const tensor of tensors) tensor.dispose()
  }
}
