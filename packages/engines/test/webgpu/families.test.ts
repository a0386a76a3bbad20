import { Effect } from "effect"
import { loadModel } from "@rlpt/models"
import { expect, test } from "vitest"
import { makeModelEngine } from "../../src/webgpu/model-engine.ts"
import { makeRolloutEngine } from "../../src/webgpu/rollout-engine.ts"
import {
  maxDifference,
  mixedPrompts,
  sampled,
  sampling,
  sequencesOf,
  testDevice,
  tinyFiles,
  tinyTokenizer,
  vocabularySize,
} from "./support.ts"

/** What each family adds to a tiny Llama, with windows and caps that count within the texts. */
const families: Readonly<Record<string, object>> = {
  mistral: { sliding_window: 11 },
  qwen2: { use_sliding_window: true, max_window_layers: 1, sliding_window: 9 },
  qwen3: {},
  gemma2: { sliding_window: 7, query_pre_attn_scalar: 6, attn_logit_softcapping: 3, final_logit_softcapping: 4 },
  gemma3_text: { sliding_window: 10, sliding_window_pattern: 2, rope_theta: 500, rope_local_base_freq: 50 },
  smollm3: { no_rope_layers: [1, 0] },
  phi3: {
    sliding_window: 20,
    partial_rotary_factor: 0.5,
    original_max_position_embeddings: 96,
    rope_scaling: { type: "longrope", short_factor: [1, 1.5], long_factor: [2, 4] },
  },
  gpt2: { n_embd: 32, n_inner: 48, n_layer: 2, n_head: 4, n_positions: 96 },
}

test.each(Object.keys(families))("log-probabilities sampled from a %s are those of its trainer", async (modelType) => {
  const gpu = await testDevice()
  const changes = {
    architectures: undefined,
    model_type: modelType,
    vocab_size: vocabularySize,
    ...families[modelType],
  }
  const model = await loadModel(gpu, tinyFiles(changes), { fromScratch: { seed: 5 } })
  const engine = makeRolloutEngine(gpu, model, tinyTokenizer, { rolloutBatchSize: 11 })
  const request = {
    prompts: mixedPrompts,
    numGenerations: 3,
    sampling: sampling({ temperature: 0.8, maxCompletionLength: 20 }),
    seed: 3,
  }
  const trajectories = await sampled(engine, request)
  const recomputed = await Effect.runPromise(makeModelEngine(gpu, model).logProbs(sequencesOf(trajectories), 0.8))
  const stored = trajectories.map(({ samplerLogProbs }) => samplerLogProbs)
  expect(maxDifference(recomputed, stored)).toBe(0)
  expect(stored.flatMap((values) => [...values]).some((value) => value < -0.1)).toBe(true)
  model.dispose()
})
