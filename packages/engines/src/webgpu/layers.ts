import { Critic, EngineError, Policy, Reference, RolloutEngine, Tokenizer, TokenizerError } from "@rlpt/core"
import {
  countParameters,
  exportAdapter,
  frozenCopy,
  loadModel,
  withHead,
  withoutAdapter,
  type LoadOptions,
  type LoraOptions,
  type Model,
  type ModelFiles,
  type ModelTokenizer,
  type Trainable,
  type WeightDType,
} from "@rlpt/models"
import { Context, Effect, Layer } from "effect"
import { attempt, GpuDevice } from "./device.ts"
import { makeModelEngine, type TrainingOptions } from "./model-engine.ts"
import { makeRolloutEngine } from "./rollout-engine.ts"

/** A model as it is stored. */
export interface ModelSource {
  /** A Hugging Face directory, or its files in memory. */
  readonly model: string | ModelFiles
  /** An adapter to put on it, as PEFT stores it: its directory, or its files in memory. */
  readonly adapter?: string | ModelFiles | undefined
  /** Most tokens of a prompt with its completion. Default: what the model was trained for. */
  readonly contextLength?: number | undefined
  /** How its weights are kept. Default: frozen ones as they are stored, trained ones as float32. */
  readonly dtype?: WeightDType | undefined
}

export interface PolicyOptions extends ModelSource {
  /** Draws fresh weights for the directory's `config.json`. */
  readonly fromScratch?: { readonly seed: number }
  /** Trains a new adapter in place of the weights. A stored one is trained as it is. */
  readonly lora?: LoraOptions
  /** Trains these weights alone. */
  readonly trainable?: Trainable
  /** Absent: the model can be sampled from and scored, not trained. */
  readonly optimizer?: TrainingOptions
  /** Completions decoded side by side. Default 256. */
  readonly rolloutBatchSize?: number
}

/** Facts about the policy that people want to see. */
export class PolicyInfo extends Context.Service<
  PolicyInfo,
  {
    readonly parameters: number
    /** How many of them, or of the adapter's, are trained. */
    readonly trainable: number
    readonly contextLength: number
    readonly model: Model
  }
>()("@rlpt/engines/PolicyInfo") {}

/** The policy: one set of weights, trained by {@link Policy} and sampled from by {@link RolloutEngine}. */
export const policyLayer = (
  options: PolicyOptions,
): Layer.Layer<Policy | RolloutEngine | Tokenizer | PolicyInfo, EngineError, GpuDevice> =>
  Layer.effectContext(
    Effect.gen(function* () {
      const gpu = yield* GpuDevice
      const { fromScratch, lora, trainable, optimizer, rolloutBatchSize = 256 } = options
      const model = yield* load(options, {
        frozen: optimizer === undefined,
        ...(fromScratch && { fromScratch }),
        ...(lora && { lora }),
        ...(trainable !== undefined && { trainable }),
      })
      const { tokenizer } = model
      if (!tokenizer)
        return yield* new EngineError({ message: `${named(options)}: has no tokenizer.json, and prompts are text` })
      return Context.empty().pipe(
        Context.add(Policy, makeModelEngine(gpu, model, optimizer)),
        Context.add(RolloutEngine, makeRolloutEngine(gpu, model, tokenizer, { rolloutBatchSize })),
        Context.add(Tokenizer, tokenizerService(tokenizer)),
        Context.add(PolicyInfo, infoOf(model)),
      )
    }),
  )

/**
 * A reward model that is trained: a model with a head that gives one number, which starts at zero unless the checkpoint
 * has it.
 */
export const rewardModelLayer = (
  options: PolicyOptions & { readonly optimizer: TrainingOptions },
): Layer.Layer<Policy | Tokenizer | PolicyInfo, EngineError, GpuDevice> =>
  Layer.effectContext(
    Effect.gen(function* () {
      const gpu = yield* GpuDevice
      const { lora, trainable, optimizer } = options
      const model = yield* load(options, {
        head: "reward",
        ...(lora && { lora }),
        ...(trainable !== undefined && { trainable }),
      })
      const { tokenizer } = model
      if (!tokenizer)
        return yield* new EngineError({ message: `${named(options)}: has no tokenizer.json, and completions are text` })
      return Context.empty().pipe(
        Context.add(Policy, makeModelEngine(gpu, model, optimizer)),
        Context.add(Tokenizer, tokenizerService(tokenizer)),
        Context.add(PolicyInfo, infoOf(model)),
      )
    }),
  )

/** A frozen copy of a model, to measure KL against. */
export const referenceLayer = (source: ModelSource): Layer.Layer<Reference, EngineError, GpuDevice> =>
  Layer.effect(
    Reference,
    Effect.gen(function* () {
      const gpu = yield* GpuDevice
      return makeModelEngine(gpu, yield* load(source, { frozen: true }))
    }),
  )

/** The policy without its adapter, to measure KL against: the same weights, of which there is no second copy. */
export const adapterOffLayer: Layer.Layer<Reference, never, GpuDevice | PolicyInfo> = Layer.effect(
  Reference,
  Effect.gen(function* () {
    const { model } = yield* PolicyInfo
    return makeModelEngine(yield* GpuDevice, withoutAdapter(model))
  }),
)

/** The policy as it is now, for one that starts from a stored adapter: the same weights, and a copy of the adapter. */
export const frozenPolicyLayer: Layer.Layer<Reference, EngineError, GpuDevice | PolicyInfo> = Layer.effect(
  Reference,
  Effect.gen(function* () {
    const { model } = yield* PolicyInfo
    const gpu = yield* GpuDevice
    return makeModelEngine(gpu, yield* attempt("copy of the adapter", () => frozenCopy(gpu, model)))
  }),
)

/** The policy's adapter as files of a PEFT directory, by file name; undefined if it has none. */
export const exportPolicyAdapter = (baseModel: string) =>
  Effect.flatMap(PolicyInfo, ({ model }) =>
    model.decoder.adapter === undefined
      ? Effect.succeed(undefined)
      : attempt("export of the adapter", () => exportAdapter(model, { baseModel })),
  )

/**
 * A critic: a model with a value head, which starts at zero, or, of a reward model, at the reward's. With `lora` it
 * trains the head and an adapter.
 */
export const criticLayer = (
  source: ModelSource & { readonly lora?: LoraOptions },
  optimizer: TrainingOptions,
): Layer.Layer<Critic, EngineError, GpuDevice> =>
  Layer.effect(
    Critic,
    Effect.gen(function* () {
      const gpu = yield* GpuDevice
      const { lora } = source
      return makeModelEngine(gpu, yield* load(source, { head: "value", ...(lora && { lora }) }), optimizer)
    }),
  )

/**
 * The critic of a policy with an adapter, over the same weights: it trains a head and an adapter of its own, like the
 * policy's but new.
 */
export const sharedCriticLayer = (
  optimizer: TrainingOptions,
): Layer.Layer<Critic, EngineError, GpuDevice | PolicyInfo> =>
  Layer.effect(
    Critic,
    Effect.gen(function* () {
      const { model } = yield* PolicyInfo
      const gpu = yield* GpuDevice
      const lora = model.decoder.adapter?.options
      if (!lora) return yield* new EngineError({ message: "only a policy with an adapter can share its weights" })
      const critic = yield* attempt("cannot make the critic", () => withHead(gpu, model, { head: "value", lora }))
      return makeModelEngine(gpu, critic, optimizer)
    }),
  )

const load = ({ model, adapter, contextLength, dtype }: ModelSource, options: LoadOptions = {}) =>
  Effect.gen(function* () {
    const gpu = yield* GpuDevice
    const stored = { ...(adapter !== undefined && { adapter }), contextLength, ...(dtype && { dtype }) }
    return yield* attempt("cannot load the model", () => loadModel(gpu, model, { ...stored, ...options }))
  })

const infoOf = (model: Model): PolicyInfo["Service"] => ({
  parameters: countParameters(model.decoder.specs),
  trainable: model.trainable.reduce((sum, name) => sum + model.parameters[name]!.size, 0),
  contextLength: model.config.contextLength,
  model,
})

const named = ({ model }: ModelSource): string => (typeof model === "string" ? model : "the model")

const tokenizerService = (tokenizer: ModelTokenizer): Tokenizer["Service"] => ({
  encode: (text) => tokenizing(() => tokenizer.encode(text)),
  encodePrompt: (messages, options) => tokenizing(() => tokenizer.encodePrompt(messages, options)),
  encodeChat: (messages, options) => tokenizing(() => tokenizer.encodeChat(messages, options)),
  decode: tokenizer.decode,
  endOfText: tokenizer.endOfText,
  vocabularySize: tokenizer.vocabularySize,
})

const tokenizing = <A>(run: () => A): Effect.Effect<A, TokenizerError> =>
  Effect.try({
    try: run,
    catch: (cause) => new TokenizerError({ message: cause instanceof Error ? cause.message : String(cause), cause }),
  })
