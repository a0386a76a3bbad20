import { Effect } from "effect"
import type { EngineState, LossBatch, LossProgram, ModelEngine, TokenSequence } from "@rlpt/core"
import { loadModel, type Model } from "@rlpt/models"
import { type AdamWOptions, type Gpu } from "@rlpt/tensor"
import { beforeAll, describe, expect, test } from "vitest"
import { makeModelEngine } from "../../src/webgpu/model-engine.ts"
import { bitsOf, maxDifference, mixedPrompts, tensorsOf, testDevice, tinyModel, vocabularySize } from "./support.ts"

let gpu: Gpu
beforeAll(async () => {
  gpu = await testDevice()
})

/** With β₁ = 0 the first moment after one step is the gradient itself. */
const plain: AdamWOptions = { betas: [0, 0.999] }

/** A clipped surrogate with an entropy bonus: every output and operation that a policy's loss may use. */
const surrogate: LossProgram = {
  name: "surrogate",
  outputs: ["logProbs", "entropy"],
  fields: ["advantages", "oldLogProbs"],
  evaluate: ({ advantages, entropy, logProbs, oldLogProbs }) => {
    const difference = logProbs!.sub(oldLogProbs!)
    const ratio = difference.exp()
    const clipped = ratio.clamp(0.8, 1.2)
    return {
      perToken: ratio.mul(advantages!).minimum(clipped.mul(advantages!)).neg().sub(entropy!.mul(0.01)),
      metrics: {
        entropy: { perToken: entropy!, reduce: "mean" },
        furthest: { perToken: difference.abs(), reduce: "max" },
        lowest: { perToken: logProbs!, reduce: "min" },
      },
    }
  },
}

const negativeLogLikelihood: LossProgram = {
  name: "nll",
  outputs: ["logProbs"],
  fields: [],
  evaluate: ({ logProbs }) => ({ perToken: logProbs!.neg(), metrics: {} }),
}

/** A deterministic stand-in for data: the fractional parts of multiples of the golden ratio. */
const fraction = (i: number) => (i * 0.6180339887498949) % 1

/** Twenty sequences of the mixed prompts with completions of 1 to 13 tokens. */
const sequences: ReadonlyArray<TokenSequence> = Array.from({ length: 20 }, (_, i) => {
  const { tokens } = mixedPrompts[i % mixedPrompts.length]!
  const completion = Array.from({ length: 1 + ((i * 5) % 13) }, (_, t) =>
    Math.floor(fraction(31 * i + 7 * t + 1) * vocabularySize),
  )
  return { tokens: Int32Array.from([...tokens, ...completion]), promptLength: tokens.length }
})

const perToken = (value: (i: number, t: number) => number) =>
  sequences.map(({ promptLength, tokens }, i) =>
    Float32Array.from({ length: tokens.length - promptLength }, (_, t) => value(i, t)),
  )

const total = sequences.reduce((sum, { promptLength, tokens }) => sum + tokens.length - promptLength, 0)

/** Every seventh token has no weight. */
const weight = (i: number, t: number) => ((i + t) % 7 === 0 ? 0 : 1 / total)

const makeBatch = (changes: Partial<LossBatch> = {}): LossBatch => ({
  sequences,
  fields: {
    advantages: perToken((i) => 4 * fraction(i + 3) - 2),
    oldLogProbs: perToken((i, t) => -3 - fraction(i + 17 * t)),
  },
  weights: perToken(weight),
  temperature: 0.9,
  ...changes,
})

/** `batch` as batches of at most `size` sequences. */
const split = (batch: LossBatch, size: number): ReadonlyArray<LossBatch> =>
  Array.from({ length: Math.ceil(batch.sequences.length / size) }, (_, part) => {
    const pick = <A>(values: ReadonlyArray<A>) => values.slice(part * size, (part + 1) * size)
    return {
      ...batch,
      sequences: pick(batch.sequences),
      fields: Object.fromEntries(Object.entries(batch.fields).map(([name, values]) => [name, pick(values)])),
      weights: pick(batch.weights),
    }
  })

const run = Effect.runPromise

const moment1Of = (state: EngineState) => tensorsOf(state.files["optimizer.safetensors"]!).get("moment1")!

/** The gradient by parameter. The optimiser lays matrices first, each parameter at a multiple of 64 elements. */
const gradientOf = (model: Model, state: EngineState): ReadonlyMap<string, Float32Array> => {
  const flat = moment1Of(state)
  const { specs } = model.decoder
  const ordered = [...specs.filter(({ shape }) => shape.length > 1), ...specs.filter(({ shape }) => shape.length === 1)]
  let at = 0
  return new Map(
    ordered.map(({ name, shape }) => {
      const size = shape.reduce((product, n) => product * n, 1)
      const values = flat.subarray(at, at + size)
      at += Math.ceil(size / 64) * 64
      return [name, values]
    }),
  )
}

const norm = (values: Iterable<number>) => Math.sqrt([...values].reduce((sum, value) => sum + value * value, 0))
const difference = (a: Float32Array, b: Float32Array) => norm(a.map((value, i) => value - b[i]!))

const step = (engine: ModelEngine, batch: LossBatch, loss: LossProgram, learningRate = 0.01, maxGradNorm = 0) =>
  run(Effect.andThen(engine.accumulate(batch, loss), engine.step({ learningRate, maxGradNorm })))

describe("splitting a batch never changes its gradient", () => {
  const gradient = async (size: number) => {
    const model = await tinyModel()
    const engine = makeModelEngine(gpu, model, plain)
    const reports = await run(Effect.forEach(split(makeBatch(), size), (part) => engine.accumulate(part, surrogate)))
    const { gradNorm } = await run(engine.step({ learningRate: 0, maxGradNorm: 0 }))
    return { gradient: gradientOf(model, await run(engine.exportState)), reports, gradNorm }
  }

  test("parameter by parameter to 1e-6 of its norm, for micro-batches of 1, 3, 8 and all", async () => {
    const one = await gradient(1)
    for (const size of [3, 8, 20]) {
      const other = await gradient(size)
      expect([...other.gradient.keys()]).toEqual([...one.gradient.keys()])
      for (const [name, values] of one.gradient) {
        const relative = difference(values, other.gradient.get(name)!) / norm(values)
        expect({ name, size, isLarge: norm(values) > 1e-3, agrees: relative < 1e-6 }).toEqual({
          name,
          size,
          isLarge: true,
          agrees: true,
        })
      }
      const flat = (all: ReadonlyMap<string, Float32Array>) =>
        Float32Array.from([...all.values()].flatMap((values) => [...values]))
      expect(difference(flat(one.gradient), flat(other.gradient)) / norm(flat(one.gradient))).toBeLessThan(1e-6)
      expect(Math.abs(other.gradNorm / one.gradNorm - 1)).toBeLessThan(1e-6)
    }
  })

  test("nor its loss and metrics, which add up from the parts", async () => {
    const {
      reports: [whole, ...none],
    } = await gradient(20)
    expect(none).toEqual([])
    const { reports } = await gradient(3)
    const sum = (of: (report: (typeof reports)[number]) => number) =>
      reports.reduce((value, report) => value + of(report), 0)
    expect(sum(({ loss }) => loss)).toBeCloseTo(whole!.loss, 5)
    expect(sum(({ tokens }) => tokens)).toBe(whole!.tokens)
    const values = (name: string) => reports.map(({ metrics }) => metrics[name]!.value)
    expect(sum(({ metrics, tokens }) => metrics["entropy"]!.value * tokens) / whole!.tokens).toBeCloseTo(
      whole!.metrics["entropy"]!.value,
      5,
    )
    expect(Math.max(...values("furthest"))).toBe(whole!.metrics["furthest"]!.value)
    expect(Math.min(...values("lowest"))).toBe(whole!.metrics["lowest"]!.value)
  })
})

describe("a report", () => {
  test("has the loss and metrics that the log-probabilities give on the host, over tokens with weight", async () => {
    const model = await tinyModel()
    const engine = makeModelEngine(gpu, model, plain)
    const batch = makeBatch()
    const logProbs = await run(engine.logProbs(sequences, batch.temperature))
    const report = await run(
      engine.accumulate(batch, {
        ...surrogate,
        evaluate: (tensors) => ({ ...surrogate.evaluate(tensors), perToken: tensors["logProbs"]!.neg() }),
      }),
    )

    let loss = 0
    let tokens = 0
    let furthest = 0
    let lowest = 0
    logProbs.forEach((values, i) =>
      values.forEach((value, t) => {
        loss -= weight(i, t) * value
        if (weight(i, t) === 0) return
        tokens++
        furthest = Math.max(furthest, Math.abs(Math.fround(value - batch.fields["oldLogProbs"]![i]![t]!)))
        lowest = Math.min(lowest, value)
      }),
    )
    expect(report.tokens).toBe(tokens)
    expect(tokens).toBeLessThan(total)
    expect(report.loss).toBeCloseTo(loss, 5)
    expect(report.metrics["lowest"]).toEqual({ value: lowest, reduce: "min" })
    expect(report.metrics["furthest"]).toEqual({ value: furthest, reduce: "max" })
    expect(report.metrics["entropy"]!.value).toBeGreaterThan(0)
    expect(report.metrics["entropy"]!.value).toBeLessThan(Math.log(vocabularySize))
  })

  test("and the gradient leave out tokens of no weight, whatever they hold", async () => {
    const outcome = async (batch: LossBatch) => {
      const engine = makeModelEngine(gpu, await tinyModel(), plain)
      const report = await run(engine.accumulate(batch, surrogate))
      await run(engine.step({ learningRate: 0, maxGradNorm: 0 }))
      return { report, moment1: moment1Of(await run(engine.exportState)) }
    }
    const { advantages, ...fields } = makeBatch().fields
    const wild = advantages!.map((values, i) => values.map((value, t) => (weight(i, t) === 0 ? 1e30 : value)))
    expect(await outcome(makeBatch({ fields: { ...fields, advantages: wild } }))).toEqual(await outcome(makeBatch()))
  })
})

test("gradient checkpointing gives the same bits in less memory", async () => {
  const outcome = async (gradientCheckpointing: boolean) => {
    const model = await tinyModel({ changes: { num_hidden_layers: 6 } })
    const engine = makeModelEngine(gpu, model, { ...plain, gradientCheckpointing })
    gpu.trim()
    const before = gpu.memory().byOwner["workspace"] ?? 0
    const report = await run(engine.accumulate(makeBatch(), surrogate))
    const workspace = gpu.memory().byOwner["workspace"]! - before
    await run(engine.step({ learningRate: 0.01, maxGradNorm: 1 }))
    return { report, state: await run(engine.exportState), workspace }
  }
  const { workspace: most, ...kept } = await outcome(false)
  const { workspace: least, ...recomputed } = await outcome(true)
  expect(recomputed).toEqual(kept)
  expect(least).toBeLessThan(most / 2)
})

describe("an optimiser step", () => {
  test("learns: the loss of a batch falls by taking steps on it", async () => {
    const engine = makeModelEngine(gpu, await tinyModel(), {})
    const losses: number[] = []
    for (let i = 0; i < 12; i++) {
      losses.push((await run(engine.accumulate(makeBatch(), negativeLogLikelihood))).loss)
      await run(engine.step({ learningRate: 0.02, maxGradNorm: 1 }))
    }
    expect(losses.at(-1)!).toBeLessThan(0.6 * losses[0]!)
  })

  test("reports the norm before clipping and clips to the one that was asked for", async () => {
    const clipped = makeModelEngine(gpu, await tinyModel(), plain)
    const free = makeModelEngine(gpu, await tinyModel(), plain)
    const { gradNorm } = await step(clipped, makeBatch(), surrogate, 0, 0.05)
    expect((await step(free, makeBatch(), surrogate, 0, 0)).gradNorm).toBe(gradNorm)
    expect(gradNorm).toBeGreaterThan(0.1)
    expect(norm(moment1Of(await run(clipped.exportState)))).toBeCloseTo(0.05, 5)
    expect(norm(moment1Of(await run(free.exportState)))).toBeCloseTo(gradNorm, 5)
  })

  test("is refused when the gradient is not finite: nothing changes, and the next one is sound", async () => {
    const engine = makeModelEngine(gpu, await tinyModel(), {})
    await step(engine, makeBatch(), surrogate)
    const before = await run(engine.exportState)
    const poisoned = makeBatch({
      fields: { ...makeBatch().fields, advantages: perToken(() => Number.POSITIVE_INFINITY) },
    })
    const refused = await step(engine, poisoned, surrogate)
    expect(refused.applied).toBe(false)
    expect(Number.isFinite(refused.gradNorm)).toBe(false)
    expect(await run(engine.exportState)).toEqual(before)

    const twin = makeModelEngine(gpu, await tinyModel(), {})
    await run(twin.restoreState(before))
    expect(await step(engine, makeBatch(), surrogate)).toEqual(await step(twin, makeBatch(), surrogate))
    expect(await run(engine.exportState)).toEqual(await run(twin.exportState))
  })
})

describe("exportState and restoreState", () => {
  test("go on bit for bit", async () => {
    const train = async (engine: ModelEngine, from: number, to: number) => {
      const norms: number[] = []
      for (let i = from; i < to; i++)
        norms.push((await step(engine, makeBatch(), surrogate, 0.01 / (i + 1), 1)).gradNorm)
      return norms
    }
    const whole = makeModelEngine(gpu, await tinyModel(), { weightDecay: 0.1 })
    await train(whole, 0, 3)
    const halfway = await run(whole.exportState)
    const norms = await train(whole, 3, 6)

    const resumed = makeModelEngine(gpu, await tinyModel({ fromScratch: { seed: 99 } }), { weightDecay: 0.1 })
    await run(resumed.restoreState(halfway))
    expect(await run(resumed.exportState)).toEqual(halfway)
    expect(await train(resumed, 3, 6)).toEqual(norms)
    expect(await run(resumed.exportState)).toEqual(await run(whole.exportState))
  })

  test("refuse a state of another model or without a file, and leave everything as it was", async () => {
    const engine = makeModelEngine(gpu, await tinyModel(), {})
    const before = await run(engine.exportState)
    const other = makeModelEngine(gpu, await tinyModel({ changes: { hidden_size: 40, num_hidden_layers: 1 } }), {})
    const foreign = await run(Effect.flip(engine.restoreState(await run(other.exportState))))
    expect(foreign.message).toMatch(
      /^restoring the training state: weights\.safetensors: embed_tokens\.weight has shape \[\d+, 40\], the model needs \[\d+, 32\]; was the model of the run changed\?$/,
    )
    const { "optimizer.safetensors": _, ...files } = before.files
    const incomplete = await run(Effect.flip(engine.restoreState({ files })))
    expect(incomplete.message).toBe("restoring the training state: the checkpoint has no optimizer.safetensors")
    expect(await run(engine.exportState)).toEqual(before)
  })
})

test("an exported model loads back equal, and keeps its tokenizer", async () => {
  const model = await tinyModel()
  const engine = makeModelEngine(gpu, model, {})
  await step(engine, makeBatch(), surrogate)
  const files = await run(engine.exportModel)
  const again = await loadModel(gpu, files)
  const copy = makeModelEngine(gpu, again)
  expect(maxDifference(await run(engine.logProbs(sequences, 1)), await run(copy.logProbs(sequences, 1)))).toBe(0)
  for (const [name, tensor] of Object.entries(model.parameters)) {
    const [ours, theirs] = await gpu.readAll([tensor, again.parameters[name]!])
    expect(bitsOf(theirs as Float32Array)).toEqual(bitsOf(ours as Float32Array))
  }
  expect(again.tokenizer!.encode("17+25=")).toEqual(model.tokenizer!.encode("17+25="))
})

test("a model that has gone wrong is not exported", async () => {
  const model = await tinyModel()
  gpu.write(model.parameters["norm.weight"]!, new Float32Array(32).fill(Number.NaN))
  const error = await run(Effect.flip(makeModelEngine(gpu, model).exportModel))
  expect(error.message).toBe('model.safetensors: tensor "model.norm.weight" holds NaN or infinity; not written')
})

describe("a critic", () => {
  const squaredError: LossProgram = {
    name: "value",
    outputs: ["values"],
    fields: ["returns"],
    evaluate: ({ returns, values }) => ({ perToken: values!.sub(returns!).square(), metrics: {} }),
  }

  test("starts at zero and learns what it is told", async () => {
    const critic = makeModelEngine(gpu, await tinyModel({ head: "value" }), {})
    const zeros = await run(critic.values(sequences))
    expect(zeros.map((values) => [...values])).toEqual(perToken(() => 0).map((values) => [...values]))
    const batch = makeBatch({ fields: { returns: perToken((i) => i / 10) } })
    const losses: number[] = []
    for (let i = 0; i < 25; i++) {
      losses.push((await run(critic.accumulate(batch, squaredError))).loss)
      await run(critic.step({ learningRate: 0.01, maxGradNorm: 1 }))
    }
    expect(losses.at(-1)!).toBeLessThan(0.2 * losses[0]!)
  })

  test("estimates before each token: its value head on the hidden state of the token before", async () => {
    const model = await tinyModel({ head: "value" })
    const { hiddenSize } = model.config
    const direction = Float32Array.from({ length: hiddenSize }, (_, i) => fraction(i) - 0.5)
    gpu.write(model.parameters["value.weight"]!, direction)
    gpu.write(model.parameters["value.bias"]!, Float32Array.of(0.25))
    const values = await run(makeModelEngine(gpu, model).values(sequences))
    for (const [i, { promptLength, tokens }] of sequences.entries()) {
      const rows = [...tokens.keys()]
      const input = {
        tokens: gpu.tensor(Int32Array.from(tokens)),
        positions: gpu.tensor(Int32Array.from(rows)),
        spans: gpu.tensor(Int32Array.from(rows.flatMap((row) => [0, 0, 0, row + 1])), [tokens.length, 4]),
      }
      const hidden = (await model.decoder.hidden(model.parameters, input).data()) as Float32Array
      for (let row = promptLength - 1; row < tokens.length - 1; row++) {
        const state = hidden.subarray(row * hiddenSize, (row + 1) * hiddenSize)
        const expected = state.reduce((sum, x, k) => sum + x * direction[k]!, 0.25)
        expect(values[i]![row + 1 - promptLength]!).toBeCloseTo(expected, 4)
      }
    }
  })

  test("a policy has none", async () => {
    const error = await run(Effect.flip(makeModelEngine(gpu, await tinyModel()).values(sequences)))
    expect(error.message).toBe("values: the model has no value head")
  })
})

describe("errors name what is wrong", () => {
  const failure = async (batch: LossBatch, loss: LossProgram, optimizer?: AdamWOptions) => {
    const engine = makeModelEngine(gpu, await tinyModel(), optimizer)
    const error = await run(Effect.flip(engine.accumulate(batch, loss)))
    expect(error._tag).toBe("EngineError")
    return error.message
  }

  test("the field that a loss reads and the batch lacks", async () => {
    const { advantages } = makeBatch().fields
    expect(await failure(makeBatch({ fields: { advantages: advantages! } }), surrogate, {})).toBe(
      'loss "surrogate": the loss reads the field "oldLogProbs", which the batch does not have (it asks for advantages, oldLogProbs)',
    )
  })

  test("the field with too few numbers", async () => {
    const fields = { ...makeBatch().fields, advantages: perToken(() => 1).map((values) => values.subarray(1)) }
    expect(await failure(makeBatch({ fields }), surrogate, {})).toBe(
      'loss "surrogate": advantages must have one number for each completion token of each sequence',
    )
  })

  test("the sequence that is longer than the context", async () => {
    const long = { tokens: new Int32Array(97), promptLength: 90 }
    const engine = makeModelEngine(gpu, await tinyModel())
    const error = await run(Effect.flip(engine.logProbs([sequences[0]!, long], 1)))
    expect(error.message).toBe("log-probabilities: sequence 1 has 97 tokens, more than the model's context of 96")
    expect(await failure(makeBatch({ sequences: [long] }), surrogate, {})).toContain("sequence 0 has 97 tokens")
  })

  test("a model that is not there to be trained", async () => {
    expect(await failure(makeBatch(), surrogate)).toBe(
      'loss "surrogate": this model was loaded without an optimiser and cannot be trained',
    )
  })
})
