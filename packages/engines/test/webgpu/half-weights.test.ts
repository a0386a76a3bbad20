import type { LossProgram } from "@rlpt/core"
import { Effect } from "effect"
import { expect, test } from "vitest"
import { makeModelEngine } from "../../src/webgpu/model-engine.ts"
import { makeRolloutEngine } from "../../src/webgpu/rollout-engine.ts"
import {
  maxDifference,
  mixedPrompts,
  sampled,
  sampling,
  sequencesOf,
  tensorsOf,
  testDevice,
  tinyModel,
  tinyTokenizer,
} from "./support.ts"

const gpu = await testDevice()
const run = Effect.runPromise

const likelihood: LossProgram = {
  name: "likelihood",
  outputs: ["logProbs"],
  fields: [],
  evaluate: ({ logProbs }) => ({ perToken: logProbs!.neg(), metrics: {} }),
}

/** Numbers that lose nothing in bfloat16: the lower half of their words is zero. */
const isBfloat16 = (values: Float32Array) =>
  new Uint32Array(values.buffer, values.byteOffset, values.length).every((bits) => (bits & 0xffff) === 0)

test("weights of bf16 are trained, sampled from, saved and restored, and sampler and trainer agree to the bit", async () => {
  const make = async () => {
    const model = await tinyModel({ dtype: "bfloat16" })
    return { model, engine: makeModelEngine(gpu, model, {}) }
  }
  const { engine, model } = await make()
  const request = {
    prompts: mixedPrompts,
    numGenerations: 2,
    sampling: sampling({ temperature: 0.8, maxCompletionLength: 12 }),
    seed: 3,
  }
  const difference = async () => {
    const trajectories = await sampled(makeRolloutEngine(gpu, model, tinyTokenizer, { rolloutBatchSize: 11 }), request)
    const logProbs = await run(engine.logProbs(sequencesOf(trajectories), 0.8))
    const stored = trajectories.map(({ samplerLogProbs }) => samplerLogProbs)
    return { sequences: sequencesOf(trajectories), stored, difference: maxDifference(logProbs, stored) }
  }
  const start = await difference()
  expect(start.difference).toBe(0)
  const weight = 1 / start.stored.reduce((sum, { length }) => sum + length, 0)
  const weights = start.stored.map((values) => values.map(() => weight))
  const batch = { sequences: start.sequences, fields: {}, weights, temperature: 0.8 }
  const step = (of: typeof engine) =>
    run(Effect.tap(of.accumulate(batch, likelihood), of.step({ learningRate: 3e-3, maxGradNorm: 1 })))

  const losses: number[] = []
  for (let i = 0; i < 6; i++) losses.push((await step(engine)).loss)
  expect(losses.at(-1)!).toBeLessThan(losses[0]! - 0.05)
  expect((await difference()).difference).toBe(0)

  const state = await run(engine.exportState)
  const stored = tensorsOf(state.files["weights.safetensors"]!)
  for (const [name, { dtype }] of Object.entries(model.parameters)) {
    expect(dtype).toBe(name.includes("norm") ? "f32" : "bf16")
    if (dtype === "bf16") expect(isBfloat16(stored.get(name)!), name).toBe(true)
  }
  const masters = [...tensorsOf(state.files["optimizer.safetensors"]!)].filter(([name]) => name.startsWith("master"))
  expect(masters).toHaveLength(1)
  expect(isBfloat16(masters[0]![1])).toBe(false)

  const again = await make()
  await run(again.engine.restoreState(state))
  expect(await step(again.engine)).toEqual(await step(engine))
  expect(await step(again.engine)).toEqual(await step(engine))
  model.dispose()
  again.model.dispose()
})
