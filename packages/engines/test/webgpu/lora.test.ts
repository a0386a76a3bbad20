import { Context, Effect, Layer } from "effect"
import { Policy, Reference, RolloutEngine, type LossProgram } from "@rlpt/core"
import { loadModel, withoutAdapter, type LoraOptions, type Model } from "@rlpt/models"
import type { Gpu } from "@rlpt/tensor"
import { beforeAll, describe, expect, test } from "vitest"
import { GpuDevice } from "../../src/webgpu/device.ts"
import { adapterOffLayer, exportPolicyAdapter, PolicyInfo, policyLayer } from "../../src/webgpu/layers.ts"
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
  tinyFiles,
  tinyModel,
  tinyTokenizer,
  vocabularySize,
} from "./support.ts"

let gpu: Gpu
beforeAll(async () => {
  gpu = await testDevice()
})

const run = Effect.runPromise

/** Some parts of each fused projection, all of another, none of a third. */
const targetModules = ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"]
const adapters: Readonly<Record<string, LoraOptions>> = {
  LoRA: { r: 3, alpha: 6, targetModules },
  rsLoRA: { r: 4, alpha: 3, useRslora: true },
  DoRA: { r: 2, alpha: 5, useDora: true, targetModules },
}

/** Shifts everything that is trained, so that the adapter counts. */
const disturb = async ({ parameters, trainable }: Model) => {
  for (const [seed, name] of trainable.entries()) {
    const moved = parameters[name]!.add(gpu.normal(parameters[name]!.shape, { seed, std: 0.3 }))
    gpu.write(parameters[name]!, await moved.data())
  }
}

const request = {
  prompts: mixedPrompts,
  numGenerations: 3,
  sampling: sampling({ temperature: 0.8, maxCompletionLength: 20 }),
  seed: 3,
}

/** How far the log-probabilities of a training pass are from those of the sampler. */
const distance: LossProgram = {
  name: "distance",
  outputs: ["logProbs"],
  fields: ["samplerLogProbs"],
  evaluate: ({ logProbs, samplerLogProbs }) => ({
    perToken: logProbs!.neg(),
    metrics: { distance: { perToken: logProbs!.sub(samplerLogProbs!).abs(), reduce: "max" } },
  }),
}

const trajectoriesOf = (model: Model) =>
  sampled(makeRolloutEngine(gpu, model, tinyTokenizer, { rolloutBatchSize: 11 }), request)

describe.each(Object.entries(adapters))("%s", (_, lora) => {
  test.each(["llama", "qwen2", "gpt2"])(
    "computes in prefill, decoding and training of a %s the same bits",
    async (family) => {
      const gpt2 = { n_embd: 32, n_inner: 48, n_layer: 2, n_head: 4, n_positions: 96 }
      const changes = {
        architectures: undefined,
        model_type: family,
        vocab_size: vocabularySize,
        ...(family === "gpt2" && gpt2),
      }
      const targets = family === "gpt2" ? ["c_attn", "c_proj"] : lora.targetModules
      const model = await loadModel(gpu, tinyFiles(changes), {
        fromScratch: { seed: 5 },
        lora: { ...lora, ...(targets && { targetModules: targets }) },
      })
      const engine = makeModelEngine(gpu, model, {})
      await disturb(model)
      const trajectories = await trajectoriesOf(model)
      const sequences = sequencesOf(trajectories)
      const stored = trajectories.map(({ samplerLogProbs }) => samplerLogProbs)
      expect(maxDifference(await run(engine.logProbs(sequences, 0.8)), stored)).toBe(0)
      const report = await run(
        engine.accumulate(
          {
            sequences,
            fields: { samplerLogProbs: stored },
            weights: stored.map((x) => x.map(() => 1)),
            temperature: 0.8,
          },
          distance,
        ),
      )
      expect(report.metrics["distance"]).toEqual({ value: 0, reduce: "max" })
      const off = makeModelEngine(gpu, withoutAdapter(model))
      expect(maxDifference(await run(off.logProbs(sequences, 0.8)), stored)).toBeGreaterThan(0.1)
      model.dispose()
    },
  )

  test("alone is trained, saved and restored", async () => {
    const lossOf = async () => {
      const model = await tinyModel({ lora })
      const engine = makeModelEngine(gpu, model, {})
      return { model, engine }
    }
    const { engine, model } = await lossOf()
    const base = withoutAdapter(model)
    const before = await gpu.readAll(Object.values(base.parameters))
    const trajectories = await trajectoriesOf(model)
    const sequences = sequencesOf(trajectories)
    const stored = trajectories.map(({ samplerLogProbs }) => samplerLogProbs)
    const weight = 1 / stored.reduce((sum, { length }) => sum + length, 0)
    const batch = {
      sequences,
      fields: { samplerLogProbs: stored },
      weights: stored.map((x) => x.map(() => weight)),
      temperature: 0.8,
    }
    const step = (of: typeof engine) =>
      run(Effect.tap(of.accumulate(batch, distance), of.step({ learningRate: 0.01, maxGradNorm: 1 })))
    const losses: number[] = []
    for (let i = 0; i < 6; i++) losses.push((await step(engine)).loss)
    expect(losses.at(-1)!).toBeLessThan(losses[0]! - 0.05)
    expect(await gpu.readAll(Object.values(base.parameters))).toEqual(before)

    const state = await run(engine.exportState)
    expect([...tensorsOf(state.files["weights.safetensors"]!).keys()].toSorted()).toEqual(model.trainable.toSorted())
    const again = await lossOf()
    await run(again.engine.restoreState(state))
    expect(await step(again.engine)).toEqual(await step(engine))
    model.dispose()
    again.model.dispose()
  })
})

test("dropout acts in training passes alone, by counters that a checkpoint remembers", async () => {
  const make = async (dropout: number) => {
    const model = await tinyModel({ lora: { r: 3, alpha: 6, dropout, seed: 4 } })
    await disturb(model)
    return { model, engine: makeModelEngine(gpu, model, {}) }
  }
  const { engine, model } = await make(0.3)
  const trajectories = await trajectoriesOf(model)
  const sequences = sequencesOf(trajectories)
  const stored = trajectories.map(({ samplerLogProbs }) => samplerLogProbs)
  const weight = 1 / stored.reduce((sum, { length }) => sum + length, 0)
  const weights = stored.map((x) => x.map(() => weight))
  const batch = { sequences, fields: { samplerLogProbs: stored }, weights, temperature: 0.8 }
  expect(maxDifference(await run(engine.logProbs(sequences, 0.8)), stored)).toBe(0)
  const loss = async (of: typeof engine) => (await run(of.accumulate(batch, distance))).loss
  const first = await loss(engine)
  const second = await loss(engine)
  expect(second).not.toBe(first)
  const without = await loss((await make(0)).engine)
  const away = async (rate: number) => Math.abs((await loss((await make(rate)).engine)) - without)
  expect(await away(0.002)).toBeGreaterThan(0)
  expect(await away(0.002)).toBeLessThan(0.1 * Math.abs(first - without))
  const again = (await make(0.3)).engine
  expect(await loss(again)).toBe(first)
  await run(again.restoreState(await run(engine.exportState)))
  expect(await loss(again)).toBe(await loss(engine))
})

test("layers that are selected are trained, the others stay, and a checkpoint holds the former", async () => {
  const model = await tinyModel({ trainable: { layers: [-1, -1] } })
  const engine = makeModelEngine(gpu, model, {})
  const values = async () => {
    const arrays = await gpu.readAll(Object.values(model.parameters))
    return new Map(Object.keys(model.parameters).map((name, i) => [name, arrays[i]!]))
  }
  const before = await values()
  const trajectories = await trajectoriesOf(model)
  const stored = trajectories.map(({ samplerLogProbs }) => samplerLogProbs)
  await run(
    engine.accumulate(
      {
        sequences: sequencesOf(trajectories),
        fields: { samplerLogProbs: stored },
        weights: stored.map((x) => x.map(() => 1)),
        temperature: 0.8,
      },
      distance,
    ),
  )
  await run(engine.step({ learningRate: 0.01, maxGradNorm: 1 }))
  const changed = [...(await values())].flatMap(([name, array]) =>
    array.every((x, i) => x === before.get(name)![i]) ? [] : [name],
  )
  expect(changed).toEqual(model.trainable)
  expect(changed.every((name) => name.startsWith("layers.1."))).toBe(true)
  const state = await run(engine.exportState)
  expect([...tensorsOf(state.files["weights.safetensors"]!).keys()].toSorted()).toEqual(changed.toSorted())
  model.dispose()
})

test("the reference of a policy with an adapter is the policy without it, and no second copy", async () => {
  const files = tinyFiles()
  const weights = () => gpu.memory().byOwner["parameters"] ?? 0
  const layer = adapterOffLayer.pipe(
    Layer.provideMerge(policyLayer({ model: files, fromScratch: { seed: 7 }, lora: adapters["LoRA"]!, optimizer: {} })),
    Layer.provideMerge(Layer.succeed(GpuDevice, gpu)),
  )
  const before = weights()
  await run(
    Effect.scoped(
      Effect.gen(function* () {
        const context = yield* Layer.build(layer)
        const { model, parameters, trainable } = Context.get(context, PolicyInfo)
        expect(trainable).toBeLessThan(parameters / 4)
        expect(weights() - before).toBeLessThan(1.5 * 4 * (parameters + trainable) + 256 * 30)
        const { sequences, plain } = yield* Effect.promise(async () => {
          const trajectories = await sampled(Context.get(context, RolloutEngine), request)
          await disturb(model)
          return { sequences: sequencesOf(trajectories), plain: await tinyModel() }
        })
        const [reference, policy, base] = [
          yield* Context.get(context, Reference).logProbs(sequences, 1),
          yield* Context.get(context, Policy).logProbs(sequences, 1),
          yield* makeModelEngine(gpu, plain).logProbs(sequences, 1),
        ]
        expect(maxDifference(reference, base)).toBe(0)
        expect(maxDifference(reference, policy)).toBeGreaterThan(0.1)
        const adapter = yield* exportPolicyAdapter("base").pipe(Effect.provide(context))
        expect(Object.keys(adapter!)).toEqual(["adapter_config.json", "adapter_model.safetensors"])
        plain.dispose()
        model.dispose()
      }),
    ),
  )
})
