import { Effect } from "effect"
import { loadModel } from "@rlpt/models"
import { expect, test } from "vitest"
import { makeModelEngine } from "../../src/webgpu/model-engine.ts"
import { makeRolloutEngine } from "../../src/webgpu/rollout-engine.ts"
import { hasStories, maxDifference, sampled, sampling, sequencesOf, stories, testDevice } from "./support.ts"

/** What `test_all.py` of karpathy/llama2.c expects of this model: greedy, 200 tokens from BOS alone. */
const expected =
  "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, " +
  "red ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to the park.\" Lily was " +
  "sad and didn't know what to do. She said, \"I want to play with your ball, but I can't find it.\"\nLily was sad and " +
  "didn't know what to do. She said, \"I'm sorry, Lily. I didn't know what to do.\"\nLily didn't want to help her mom, so she"

if (!hasStories) process.stderr.write("skipped: the model stories260K is not beside the repository\n")

test.skipIf(!hasStories)("greedy decoding of stories260K writes the text that llama2.c writes", async () => {
  const gpu = await testDevice()
  const model = await loadModel(gpu, stories)
  const engine = makeRolloutEngine(gpu, model, model.tokenizer!, { rolloutBatchSize: 4 })
  const prompt = { row: 0, text: "", tokens: model.tokenizer!.encode(""), columns: {} }
  expect([...prompt.tokens]).toEqual([1])
  const params = sampling({ temperature: 0, maxCompletionLength: 200 })
  const trajectories = await sampled(engine, { prompts: [prompt], numGenerations: 2, sampling: params, seed: 1 })
  for (const { completion } of trajectories) expect(completion).toBe(expected)

  const trainer = makeModelEngine(gpu, model)
  const recomputed = await Effect.runPromise(trainer.logProbs(sequencesOf(trajectories), 1))
  expect(
    maxDifference(
      recomputed,
      trajectories.map(({ samplerLogProbs }) => samplerLogProbs),
    ),
  ).toBe(0)
  model.dispose()
})
