import {
  CheckpointError,
  CheckpointStore,
  type Content,
  Critic,
  type Metrics,
  Policy,
  Reference,
  Reward,
  type RewardInput,
  RolloutEngine,
  type RolloutRequest,
  type Sample,
  type Score,
  Task,
  type TaskRow,
  Tokenizer,
  Tracker,
  type Trajectory,
} from "@rlpt/core"
import { type Context, Effect, Layer, Schema, Stream } from "effect"
import { hash32 } from "../../src/order.ts"
import { SftOptions, TrainOptions, withAlgorithmDefaults } from "../../src/index.ts"
import { distribution, type FakeModel, fakeCritic, fakePolicy } from "./fake-models.ts"

/** Token 0 ends a text; the others are the letters a, b, c, … */
export const VOCABULARY = 5
const END = 0
const tokensOf = (text: string) => Int32Array.from(text, (char) => char.charCodeAt(0) - 96)
const letter = (token: number) => String.fromCharCode(96 + token)

export const trainOptions = (input: Partial<typeof TrainOptions.Encoded>): TrainOptions =>
  Schema.decodeSync(TrainOptions)(
    withAlgorithmDefaults({
      maxSteps: 4,
      promptsPerStep: 2,
      numGenerations: 4,
      maxCompletionLength: 4,
      learningRate: 1,
      criticLearningRate: 0.5,
      ...(input.algorithm === "ppo" ? {} : { criticLearningRate: 1e-5 }),
      ...input,
    }),
  )

export const sftOptions = (input: Partial<typeof SftOptions.Encoded>): SftOptions =>
  Schema.decodeSync(SftOptions)({ maxSteps: 4, batchSize: 4, learningRate: 1, ...input })

/** Everything that outlives a process: what a killed run leaves behind for the next one. */
export interface Disk {
  readonly checkpoints: Map<number, Readonly<Record<string, Uint8Array>>>
  /** Steps whose checkpoint fails its hash. */
  readonly corrupt: Set<number>
  readonly metrics: Map<number, Metrics>
  readonly samples: Map<number, ReadonlyArray<Sample>>
  readonly rewinds: Array<number>
}

export const emptyDisk = (): Disk => ({
  checkpoints: new Map(),
  corrupt: new Set(),
  metrics: new Map(),
  samples: new Map(),
  rewinds: [],
})

/** What a test may replace. */
export interface Hooks {
  /** Runs before the completions of each request; `eval` requests are those at temperature 0. */
  readonly onGenerate?: (request: RolloutRequest) => Effect.Effect<void>
  readonly score?: (input: RewardInput) => Effect.Effect<Score>
  readonly rows?: number
  readonly evalRows?: number
  readonly prompt?: (row: number) => Content
  readonly completion?: (row: number) => Content
  /** What rows have besides. */
  readonly more?: Partial<TaskRow>
  readonly contextLength?: number
  /** Left out on purpose. */
  readonly without?: ReadonlyArray<"reference" | "critic">
}

/** One process of a run: models start anew, the disk stays. */
export const fakeRun = (disk: Disk, hooks: Hooks = {}) => {
  const policy = fakePolicy(VOCABULARY)
  const critic = fakeCritic()
  const requests: Array<RolloutRequest> = []
  const events: Array<string> = []
  const layer = Layer.mergeAll(
    Layer.succeed(Policy, policy.engine),
    hooks.without?.includes("critic") ? Layer.empty : Layer.succeed(Critic, critic.engine),
    hooks.without?.includes("reference") ? Layer.empty : Layer.succeed(Reference, fakePolicy(VOCABULARY).engine),
    Layer.succeed(RolloutEngine, rolloutEngine(policy, hooks, requests, events)),
    Layer.succeed(Reward, reward(hooks)),
    Layer.succeed(Task, task(hooks)),
    Layer.succeed(Tokenizer, {
      encode: (text) => Effect.succeed(tokensOf(text)),
      // A conversation is what its messages say, without anything between them.
      encodePrompt: (messages) => {
        const text = messages.map(({ content }) => content).join("")
        return Effect.succeed({ text, tokens: tokensOf(text) })
      },
      encodeChat: (messages, { from = 0 } = {}) => {
        const text = messages.map(({ content }) => content).join("")
        const mask = messages.flatMap(({ role, content }, i) =>
          Array.from(String(content), () => Number(role === "assistant" && i >= from)),
        )
        return Effect.succeed({ text, tokens: tokensOf(text), assistantMask: Uint8Array.from(mask) })
      },
      decode: (tokens) =>
        Array.from(
          tokens.filter((token) => token !== END),
          letter,
        ).join(""),
      endOfText: [END],
      vocabularySize: VOCABULARY,
    }),
    Layer.succeed(CheckpointStore, checkpointStore(disk, events)),
    Layer.succeed(Tracker, tracker(disk, events)),
  )
  return { policy, critic, requests, events, layer }
}

const rolloutEngine = (
  policy: FakeModel,
  { contextLength = 16, onGenerate = () => Effect.void }: Hooks,
  requests: Array<RolloutRequest>,
  events: Array<string>,
): Context.Service.Shape<typeof RolloutEngine> => {
  let weights = policy.parameters.slice()
  let version = -1
  const complete = (request: RolloutRequest, prompt: RolloutRequest["prompts"][number], sample: number): Trajectory => {
    const { maxCompletionLength, temperature } = request.sampling
    const tokens: Array<number> = []
    const logProbs: Array<number> = []
    while (tokens.length < maxCompletionLength && tokens.at(-1) !== END) {
      const p = distribution(weights, VOCABULARY, tokens.length, temperature || 1)
      const key = hash32(hash32(request.seed, prompt.row), sample * 1000 + tokens.length)
      const token = temperature === 0 ? p.indexOf(Math.max(...p)) : pick(p, key / 2 ** 32)
      tokens.push(token)
      logProbs.push(Math.log(p[token]!))
    }
    return {
      prompt: { ...prompt },
      sample,
      completionTokens: Int32Array.from(tokens),
      completion: tokens
        .filter((token) => token !== END)
        .map(letter)
        .join(""),
      samplerLogProbs: Float32Array.from(logProbs),
      finishReason: tokens.at(-1) === END ? "stop" : "length",
      policyVersion: version,
    }
  }
  return {
    contextLength,
    generate: (request) =>
      Stream.unwrap(
        Effect.gen(function* () {
          events.push(request.sampling.temperature === 0 ? "evaluate" : "generate")
          requests.push(request)
          yield* onGenerate(request)
          const all = request.prompts.flatMap((prompt) =>
            Array.from({ length: request.numGenerations }, (_, sample) => complete(request, prompt, sample)),
          )
          // Engines emit in any order; this one in an order that looks like none.
          return Stream.fromIterable(
            all.toSorted((a, b) => hash32(a.prompt.row, a.sample) - hash32(b.prompt.row, b.sample)),
          )
        }),
      ),
    syncWeights: (policyVersion) =>
      Effect.sync(() => {
        events.push(`sync ${policyVersion}`)
        weights = policy.parameters.slice()
        version = policyVersion
      }),
  }
}

const pick = (p: Float64Array, uniform: number): number => {
  let sum = 0
  const found = p.findIndex((x) => (sum += x) > uniform)
  return found === -1 ? p.length - 1 : found
}

/** Rewards every `a`; a second reward applies to completions that ended by themselves. */
const defaultScore = ({ completion, finishReason }: RewardInput) => {
  const letters = completion.split("a").length - 1
  return Effect.succeed<Score>({
    rewards: { letters, ended: finishReason === "stop" ? 1 : null },
    reward: letters + (finishReason === "stop" ? 0.5 : 0),
  })
}

const reward = ({ score = defaultScore }: Hooks): Context.Service.Shape<typeof Reward> => ({
  names: ["letters", "ended"],
  score: (inputs) => Effect.forEach(inputs, score),
})

const task = ({
  evalRows = 3,
  prompt = () => "ab",
  completion = () => "aa",
  more = {},
  rows = 8,
}: Hooks): Context.Service.Shape<typeof Task> => {
  const split = (size: number) => ({
    size,
    row: (index: number) =>
      Effect.succeed({ prompt: prompt(index), completion: completion(index), columns: { index }, ...more }),
  })
  return { name: "letters", train: split(rows), ...(evalRows > 0 && { eval: split(evalRows) }) }
}

const checkpointStore = (disk: Disk, events: Array<string>): Context.Service.Shape<typeof CheckpointStore> => ({
  put: ({ files, step }) =>
    disk.checkpoints.has(step)
      ? new CheckpointError({ reason: "io", message: `checkpoint ${step} exists` })
      : Effect.sync(() => {
          events.push(`save ${step}`)
          disk.checkpoints.set(step, files)
        }),
  get: (step) => {
    const files = disk.checkpoints.get(step)
    if (files === undefined) return new CheckpointError({ reason: "not-found", message: `no checkpoint ${step}` })
    return disk.corrupt.has(step)
      ? new CheckpointError({ reason: "corrupt", message: "policy/state.json does not match its hash" })
      : Effect.succeed({ step, files })
  },
  list: Effect.sync(() => [...disk.checkpoints.keys()].toSorted((a, b) => a - b)),
  delete: (step) =>
    Effect.sync(() => {
      disk.checkpoints.delete(step)
      disk.corrupt.delete(step)
    }),
})

const tracker = (disk: Disk, events: Array<string>): Context.Service.Shape<typeof Tracker> => ({
  metrics: (step, metrics) =>
    Effect.sync(() => {
      if (disk.metrics.has(step)) throw new Error(`metrics of step ${step} were written twice`)
      events.push(`metrics ${step}`)
      disk.metrics.set(step, metrics)
    }),
  timings: () => Effect.void,
  samples: (step, samples) => Effect.sync(() => void disk.samples.set(step, samples)),
  rewind: (step) =>
    Effect.sync(() => {
      disk.rewinds.push(step)
      for (const log of [disk.metrics, disk.samples]) for (const key of log.keys()) if (key > step) log.delete(key)
    }),
})
