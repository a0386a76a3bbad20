import { Context, Effect, Layer } from "effect"
import { Critic, Policy, Reference, type LossProgram, type TokenSequence } from "@rlpt/core"
import { exportAdapter, exportModel, type LoraOptions } from "@rlpt/models"
import type { Gpu } from "@rlpt/tensor"
import { beforeAll, expect, test } from "vitest"
import { GpuDevice } from "../../src/webgpu/device.ts"
import { criticLayer, frozenPolicyLayer, PolicyInfo, policyLayer, sharedCriticLayer } from "../../src/webgpu/layers.ts"
import { maxDifference, mixedPrompts, testDevice, tinyFiles, tinyModel } from "./support.ts"

let gpu: Gpu
beforeAll(async () => {
  gpu = await testDevice()
})

const lora: LoraOptions = { r: 3, alpha: 6, targetModules: ["q_proj", "v_proj", "down_proj"], seed: 5 }
const fromScratch = { seed: 7 }
const sequences: ReadonlyArray<TokenSequence> = mixedPrompts
  .filter(({ tokens }) => tokens.length > 2)
  .map(({ tokens }) => ({ tokens, promptLength: 2 }))
const perToken = (value: number) => sequences.map(({ tokens }) => new Float32Array(tokens.length - 2).fill(value))
const batch = (fields: Readonly<Record<string, ReadonlyArray<Float32Array>>>) => ({
  sequences,
  fields,
  weights: perToken(0.01),
  temperature: 1,
})

const towards: LossProgram = {
  name: "towards",
  outputs: ["values"],
  fields: ["targets"],
  evaluate: ({ values, targets }) => ({ perToken: values!.sub(targets!).square(), metrics: {} }),
}
const likelier: LossProgram = {
  name: "likelier",
  outputs: ["logProbs"],
  fields: [],
  evaluate: ({ logProbs }) => ({ perToken: logProbs!.neg(), metrics: {} }),
}
const rate = { learningRate: 0.05, maxGradNorm: 1 }

test("the critic of a policy with an adapter shares its weights, and learns what one of its own would, bit for bit", () =>
  Effect.runPromise(
    Effect.scoped(
      Effect.gen(function* () {
        const files = yield* Effect.promise(async () => exportModel(await tinyModel()))
        const device = Layer.succeed(GpuDevice, gpu)
        const policy = yield* Layer.build(
          Layer.provideMerge(policyLayer({ model: files, lora, optimizer: {} }), device),
        )
        const weights = () => gpu.memory().byOwner["parameters"] ?? 0
        const [held, whole] = [weights(), Context.get(policy, PolicyInfo).parameters]
        const shared = Context.get(
          yield* Layer.build(Layer.provide(sharedCriticLayer({}), Layer.succeedContext(policy))),
          Critic,
        )
        expect(weights() - held).toBeLessThan((4 * whole) / 3)
        const own = Context.get(
          yield* Layer.build(Layer.provide(criticLayer({ model: files, lora }, {}), device)),
          Critic,
        )

        const learner = Context.get(policy, Policy)
        const before = yield* learner.logProbs(sequences, 1)
        expect(maxDifference(yield* shared.values(sequences), perToken(0))).toBe(0)
        for (let step = 0; step < 3; step++) {
          for (const critic of [shared, own]) {
            yield* critic.accumulate(batch({ targets: perToken(1) }), towards)
            yield* critic.step(rate)
          }
          // What the policy learns is its own affair.
          if (step === 1) {
            expect(maxDifference(yield* learner.logProbs(sequences, 1), before)).toBe(0)
            yield* learner.accumulate(batch({}), likelier)
            yield* learner.step(rate)
          }
        }
        expect(maxDifference(yield* learner.logProbs(sequences, 1), before)).toBeGreaterThan(0.01)
        const values = yield* shared.values(sequences)
        expect(maxDifference(values, perToken(0))).toBeGreaterThan(0.1)
        expect(maxDifference(values, yield* own.values(sequences))).toBe(0)
        const [a, b] = [yield* shared.exportState, yield* own.exportState]
        expect(a.files["weights.safetensors"]).toEqual(b.files["weights.safetensors"])
      }),
    ),
  ))

test("the reference of a policy that goes on with an adapter is the policy as it started", () =>
  Effect.runPromise(
    Effect.scoped(
      Effect.gen(function* () {
        const adapter = yield* Effect.promise(async () => {
          const model = await tinyModel({ lora })
          for (const name of model.trainable) {
            const { shape } = model.parameters[name]!
            gpu.write(model.parameters[name]!, await gpu.normal(shape, { seed: 1, std: 0.3 }).data())
          }
          return exportAdapter(model)
        })
        const options = { model: tinyFiles(), fromScratch, adapter, optimizer: {} }
        const layer = frozenPolicyLayer.pipe(
          Layer.provideMerge(policyLayer(options)),
          Layer.provideMerge(Layer.succeed(GpuDevice, gpu)),
        )
        const context = yield* Layer.build(layer)
        const [policy, reference] = [Context.get(context, Policy), Context.get(context, Reference)]
        const start = yield* policy.logProbs(sequences, 1)
        const base = yield* Effect.promise(() => tinyModel())
        expect(base.trainable).not.toEqual(Context.get(context, PolicyInfo).model.trainable)
        yield* policy.accumulate(batch({}), likelier)
        yield* policy.step(rate)
        expect(maxDifference(yield* policy.logProbs(sequences, 1), start)).toBeGreaterThan(0.01)
        expect(maxDifference(yield* reference.logProbs(sequences, 1), start)).toBe(0)
      }),
    ),
  ))
