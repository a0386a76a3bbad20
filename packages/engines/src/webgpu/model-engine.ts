import {
  EngineError,
  type LossBatch,
  type LossProgram,
  type LossReport,
  type ModelEngine,
  type OptimizerStep,
  type Reduction,
  type TokenSequence,
  type TokenTensor,
} from "@rlpt/core"
import { exportModel, ModelError, type Model, type PassOptions } from "@rlpt/models"
import { adamw, grad, random, type AdamW, type AdamWOptions, type Compiled, type Gpu, type Tensor } from "@rlpt/tensor"
import { Effect } from "effect"
import { batchProblem, packBatch, packField, sequenceProblem, unpackField } from "./batch.ts"
import { attempt } from "./device.ts"
import { batchInputs, scoredHidden, withTensors } from "./forward.ts"
import { exportTrainState, restoreTrainState } from "./train-state.ts"

/** Rows of one forward pass when nothing is trained: a bound on memory, without influence on results. */
const forwardRows = 4096

type Inputs = readonly Tensor[]
type Program<Result> = Compiled<Inputs, Result>

export interface TrainingOptions extends AdamWOptions {
  /** Keeps little of each layer for the gradient and computes it again: less memory, more time, the same bits. */
  readonly gradientCheckpointing?: boolean
}

/**
 * Models of this process as model engines: programs are recorded once per loss and shape, and replayed. Without
 * `training` a model can be evaluated only.
 */
export const makeModelEngine = (gpu: Gpu, model: Model, training?: TrainingOptions): ModelEngine => {
  const { decoder, parameters } = model
  const trained = Object.fromEntries(model.trainable.map((name) => [name, parameters[name]!]))
  const learner = training && makeLearner(gpu, model, adamw(Object.values(trained), training), training)
  const scoring = new Map<number, Program<Tensor>>()
  const valuing = lazily(() =>
    gpu.compile((...[tokens, positions, spans, scored]: Inputs) =>
      decoder.values(parameters, scoredHidden(model, tokens!, positions!, spans!, scored!)),
    ),
  )
  const recorded = new WeakMap<LossProgram, Map<number, TrainingProgram>>()
  const stepping = new Map<number, Program<Tensor>>()

  const scoreProgram = (temperature: number) =>
    cached(scoring, temperature, () =>
      gpu.compile((...[tokens, positions, spans, scored, targets]: Inputs) => {
        const hidden = scoredHidden(model, tokens!, positions!, spans!, scored!)
        return decoder.logProbs(parameters, hidden, targets!, { temperature }).logProbs
      }),
    )

  /** Runs a forward program over sequences, a bounded number of rows at a time. */
  const forward = async (sequences: ReadonlyArray<TokenSequence>, program: Program<Tensor>) => {
    refuse(sequenceProblem(sequences, model.config.contextLength))
    const results: Float32Array[] = []
    for (const part of splitByRows(sequences)) {
      const batch = packBatch(part)
      const inputs = batchInputs(gpu, batch)
      const output = await withTensors(inputs, async () => {
        const tensor = program(...inputs)
        return withTensors([tensor], () => tensor.data())
      })
      results.push(...unpackField(batch, output as Float32Array))
    }
    return results
  }

  const accumulate = async (batch: LossBatch, loss: LossProgram): Promise<LossReport> => {
    refuse(sequenceProblem(batch.sequences, model.config.contextLength) ?? batchProblem(batch))
    const packed = packBatch(batch.sequences)
    const perLoss = recorded.get(loss) ?? new Map<number, TrainingProgram>()
    recorded.set(loss, perLoss)
    const { program, reductions } = cached(perLoss, batch.temperature, () =>
      trainingProgram(gpu, model, required(learner), loss, batch.temperature),
    )
    const perToken = [batch.weights, ...loss.fields.map((name) => batch.fields[name] ?? missingField(loss, name))]
    const inputs = [
      ...batchInputs(gpu, packed),
      ...perToken.map((values) => gpu.tensor(packField(packed, values), [packed.scored.length], "batch")),
    ]
    return withTensors(inputs, async () => {
      const outputs = program(...inputs)
      const names = Object.keys(outputs)
      const values = await withTensors(Object.values(outputs), () => gpu.readAll(Object.values(outputs)))
      const numbers = Object.fromEntries(names.map((name, i) => [name, values[i]![0]!]))
      const tokens = batch.weights.reduce((sum, weights) => sum + weights.reduce((n, w) => n + (w === 0 ? 0 : 1), 0), 0)
      const metrics = [...reductions].map(([name, reduce]) => {
        const value = numbers[metricKey(name)]!
        return [name, { value: reduce === "mean" ? value / Math.max(1, tokens) : value, reduce }] as const
      })
      return { loss: numbers["loss"]!, tokens, metrics: Object.fromEntries(metrics) }
    })
  }

  const step = async ({ learningRate, maxGradNorm }: OptimizerStep) => {
    const program = cached(stepping, maxGradNorm, () =>
      gpu.compile((...[rate]: Inputs) => required(learner).optimizer.update({ learningRate: rate!, maxGradNorm })),
    )
    const rate = gpu.tensor([learningRate], [1], "batch")
    const gradNorm = await withTensors([rate], async () => {
      const norm = program(rate)
      return withTensors([norm], () => norm.item())
    })
    return { gradNorm, applied: Number.isFinite(gradNorm) }
  }

  return {
    logProbs: (sequences, temperature) =>
      attempt("log-probabilities", () => forward(sequences, scoreProgram(temperature))),
    values: (sequences) =>
      decoder.kind !== "lm"
        ? attempt("values", () => forward(sequences, valuing()))
        : Effect.fail(new EngineError({ message: "values: the model has no value head" })),
    accumulate: (batch, loss) => attempt(`loss "${loss.name}"`, () => accumulate(batch, loss)),
    step: (options) => attempt("optimiser step", () => step(options)),
    exportState: attempt("export of the training state", () => exportTrainState(gpu, trained, required(learner).state)),
    restoreState: (state) =>
      attempt("restoring the training state", async () =>
        restoreTrainState(gpu, trained, required(learner).state, state),
      ),
    exportModel: Effect.tryPromise({
      try: () => exportModel(model),
      catch: (cause) =>
        new EngineError({ message: cause instanceof ModelError ? cause.message : "export of the model failed", cause }),
    }),
  }
}

/** What changes a model. */
interface Learner {
  readonly optimizer: AdamW
  /** How a training pass runs; part of the program that calls it. */
  readonly pass: () => PassOptions
  /** Everything but the weights that a resumed run needs, by name. */
  readonly state: Readonly<Record<string, Tensor>>
}

const makeLearner = (gpu: Gpu, model: Model, optimizer: AdamW, training: TrainingOptions): Learner => {
  const { gradientCheckpointing = false } = training
  const lora = model.decoder.adapter?.options
  if (!lora?.dropout) return { optimizer, pass: () => ({ gradientCheckpointing }), state: optimizer.state }
  // Each pass drops by the number of its own, which goes on where a checkpoint left it.
  const passes = gpu.zeros([1], "f32", "optimizer")
  const key = random.key(gpu, lora.seed)
  const pass = () => {
    const dropoutKey = random.fold(key, passes.cast("u32"))
    gpu.accumulate(passes, gpu.constant(1).broadcastTo([1]))
    return { gradientCheckpointing, dropoutKey }
  }
  return { optimizer, pass, state: { ...optimizer.state, passes } }
}

interface TrainingProgram {
  readonly program: Program<Record<string, Tensor>>
  /** How each metric's token values were reduced; filled when the program is first traced. */
  readonly reductions: ReadonlyMap<string, Reduction>
}

const metricKey = (name: string) => `metric ${name}`

/** Forward, loss and backward as one recorded program, which adds the gradient to what the optimiser has gathered. */
const trainingProgram = (
  gpu: Gpu,
  model: Model,
  { optimizer, pass }: Learner,
  loss: LossProgram,
  temperature: number,
): TrainingProgram => {
  const { decoder, parameters } = model
  const reductions = new Map<string, Reduction>()
  const program = gpu.compile((...inputs: Inputs) => {
    const [tokens, positions, spans, scored, targets, weights, ...fields] = inputs
    const hidden = scoredHidden(model, tokens!, positions!, spans!, scored!, pass())
    const outputs: Record<string, Tensor> = loss.outputs.includes("values")
      ? { values: decoder.values(parameters, hidden) }
      : { ...decoder.logProbs(parameters, hidden, targets!, { temperature }) }
    const data = Object.fromEntries(loss.fields.map((name, i) => [name, fields[i]!]))
    const { perToken, metrics } = loss.evaluate({ ...outputs, ...data })

    const ignored = weights!.equal(0)
    const total = ignored.where(0, asTensor(perToken).mul(weights!)).sum()
    optimizer.accumulate(grad(total, optimizer.params))

    const reduced = Object.entries(metrics).map(([name, { perToken, reduce }]) => {
      reductions.set(name, reduce)
      return [metricKey(name), reductionOf[reduce](asTensor(perToken), ignored)] as const
    })
    return { loss: total, ...Object.fromEntries(reduced) }
  })
  return { program, reductions }
}

const largest = 3.4e38

/** Token values to one number, tokens of no weight left out; a mean comes as its sum. */
const reductionOf: Readonly<Record<Reduction, (values: Tensor, ignored: Tensor) => Tensor>> = {
  mean: (values, ignored) => ignored.where(0, values).sum(),
  min: (values, ignored) => ignored.where(largest, values).min(),
  max: (values, ignored) => ignored.where(-largest, values).max(),
}

/** Losses are written against the contract's tensor; what this engine hands them, and gets back, are its own. */
const asTensor = (tensor: TokenTensor): Tensor => tensor as Tensor

const refuse = (problem: string | undefined): void => {
  if (problem !== undefined) throw new TypeError(problem)
}

const required = (learner: Learner | undefined): Learner => {
  if (!learner) throw new TypeError("this model was loaded without an optimiser and cannot be trained")
  return learner
}

const missingField = (loss: LossProgram, name: string): never => {
  throw new TypeError(
    `the loss reads the field "${name}", which the batch does not have (it asks for ${loss.fields.join(", ")})`,
  )
}

const lazily = <A>(make: () => A): (() => A) => {
  let made: A | undefined
  return () => (made ??= make())
}

const cached = <Key, A>(map: Map<Key, A>, key: Key, make: () => A): A => {
  const known = map.get(key)
  if (known !== undefined) return known
  const made = make()
  map.set(key, made)
  return made
}

const splitByRows = (sequences: ReadonlyArray<TokenSequence>): ReadonlyArray<ReadonlyArray<TokenSequence>> => {
  const parts: TokenSequence[][] = []
  let rows = 0
  for (const sequence of sequences) {
    const last = parts.at(-1)
    if (last && rows + sequence.tokens.length <= forwardRows) last.push(sequence)
    else {
      parts.push([sequence])
      rows = 0
    }
    rows += sequence.tokens.length
  }
  return parts
}
