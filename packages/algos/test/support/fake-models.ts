import type { LossBatch, LossProgram, LossReport, ModelEngine, OptimizerStep, TokenSequence } from "@rlpt/core"
import { EngineError } from "@rlpt/core"
import { Effect } from "effect"
import { CpuTensor } from "./cpu-tensor.ts"

/** What a fake model was asked to do, in order. */
export type Call =
  | { readonly kind: "accumulate"; readonly loss: string; readonly batch: LossBatch }
  | { readonly kind: "step"; readonly options: OptimizerStep }

/**
 * A model whose maths fits in the head: the distribution of a completion's token depends on its position alone
 * (`parameters` is positions × vocabulary logits), and the value before it is one number per position. Trained by plain
 * gradient descent in float64.
 */
export interface FakeModel {
  readonly engine: ModelEngine
  readonly parameters: Float64Array
  readonly calls: Array<Call>
  /** Gradient accumulated since the last step. */
  readonly gradient: Float64Array
  /** Gradients that the next steps report, whatever they are. */
  readonly gradNorms: Array<number>
}

export const POSITIONS = 8

const softmax = (logits: ArrayLike<number>): Float64Array => {
  const top = Math.max(...Array.from(logits))
  const exps = Float64Array.from(logits, (logit) => Math.exp(logit - top))
  const total = exps.reduce((sum, x) => sum + x, 0)
  return exps.map((x) => x / total)
}

/** Probabilities of the token at `position`. */
export const distribution = (parameters: Float64Array, vocabulary: number, position: number, temperature: number) =>
  softmax(parameters.slice(position * vocabulary, (position + 1) * vocabulary).map((logit) => logit / temperature))

const completionOf = ({ promptLength, tokens }: TokenSequence) => tokens.subarray(promptLength)

const fakeModel = (
  size: number,
  forward: (parameters: Float64Array, sequence: TokenSequence, temperature: number) => Record<string, Float64Array>,
  backward: (
    model: { readonly parameters: Float64Array; readonly gradient: Float64Array },
    sequence: TokenSequence,
    temperature: number,
    gradients: Readonly<Record<string, Float64Array>>,
  ) => void,
): FakeModel => {
  const parameters = new Float64Array(size)
  const gradient = new Float64Array(size)
  const calls: Array<Call> = []
  const gradNorms: Array<number> = []
  let updates = 0

  const accumulate = (batch: LossBatch, loss: LossProgram): LossReport => {
    calls.push({ kind: "accumulate", loss: loss.name, batch })
    const report = { loss: 0, tokens: 0 }
    const values: Record<string, Array<number>> = {}
    const reductions: Record<string, "mean" | "min" | "max"> = {}
    batch.sequences.forEach((sequence, i) => {
      const outputs = Object.entries(forward(parameters, sequence, batch.temperature))
      const inputs = Object.fromEntries(
        [
          ...outputs.filter(([name]) => loss.outputs.some((output) => output === name)),
          ...loss.fields.map((name) => [name, batch.fields[name]![i]!] as const),
        ].map(([name, numbers]) => [name, new CpuTensor(numbers)]),
      )
      const { metrics, perToken } = loss.evaluate(inputs)
      const losses = perToken as CpuTensor
      losses.backward(batch.weights[i]!)
      losses.values.forEach((value, t) => (report.loss += value * batch.weights[i]![t]!))
      report.tokens += batch.weights[i]!.filter((weight) => weight !== 0).length
      for (const [name, metric] of Object.entries(metrics)) {
        reductions[name] = metric.reduce
        ;(values[name] ??= []).push(...(metric.perToken as CpuTensor).values)
      }
      backward(
        { parameters, gradient },
        sequence,
        batch.temperature,
        Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, tensor.gradient])),
      )
    })
    const reduce = {
      mean: (numbers: ReadonlyArray<number>) => numbers.reduce((sum, x) => sum + x, 0) / numbers.length,
      min: (numbers: ReadonlyArray<number>) => Math.min(...numbers),
      max: (numbers: ReadonlyArray<number>) => Math.max(...numbers),
    }
    return {
      ...report,
      metrics: Object.fromEntries(
        Object.entries(values).map(([name, numbers]) => [
          name,
          { value: reduce[reductions[name]!](numbers), reduce: reductions[name]! },
        ]),
      ),
    }
  }

  const output = (name: string, sequences: ReadonlyArray<TokenSequence>, temperature: number) =>
    Effect.suspend(() => {
      const results = sequences.map((sequence) => forward(parameters, sequence, temperature)[name])
      return results.every((result) => result !== undefined)
        ? Effect.succeed(results.map((result) => Float32Array.from(result!)))
        : new EngineError({ message: `this model has no ${name}` })
    })

  const engine: ModelEngine = {
    logProbs: (sequences, temperature) => output("logProbs", sequences, temperature),
    values: (sequences) => output("values", sequences, 1),
    accumulate: (batch, loss) => Effect.sync(() => accumulate(batch, loss)),
    step: (options) =>
      Effect.sync(() => {
        calls.push({ kind: "step", options })
        const gradNorm = gradNorms.shift() ?? Math.hypot(...gradient)
        const applied = Number.isFinite(gradNorm)
        if (applied) {
          updates++
          gradient.forEach((g, i) => (parameters[i]! -= options.learningRate * g))
        }
        gradient.fill(0)
        return { gradNorm, applied }
      }),
    exportState: Effect.sync(() => ({
      files: { "state.json": new TextEncoder().encode(JSON.stringify({ updates, parameters: [...parameters] })) },
    })),
    restoreState: ({ files }) =>
      Effect.sync(() => {
        const state = JSON.parse(new TextDecoder().decode(files["state.json"])) as {
          updates: number
          parameters: Array<number>
        }
        updates = state.updates
        parameters.set(state.parameters)
      }),
    exportModel: Effect.succeed({}),
  }
  return { engine, parameters, calls, gradient, gradNorms }
}

/** A policy over `vocabulary` tokens, uniform to begin with. */
export const fakePolicy = (vocabulary: number): FakeModel =>
  fakeModel(
    POSITIONS * vocabulary,
    (parameters, sequence, temperature) => {
      const rows = Array.from(completionOf(sequence), (token, t) => ({
        token,
        p: distribution(parameters, vocabulary, t, temperature),
      }))
      return {
        logProbs: Float64Array.from(rows, ({ p, token }) => Math.log(p[token]!)),
        entropy: Float64Array.from(rows, ({ p }) => -p.reduce((sum, x) => sum + x * Math.log(x), 0)),
      }
    },
    ({ gradient, parameters }, sequence, temperature, gradients) => {
      completionOf(sequence).forEach((token, t) => {
        const p = distribution(parameters, vocabulary, t, temperature)
        const entropy = -p.reduce((sum, x) => sum + x * Math.log(x), 0)
        for (let v = 0; v < vocabulary; v++) {
          const ofLogProb = (v === token ? 1 : 0) - p[v]!
          const ofEntropy = -p[v]! * (Math.log(p[v]!) + entropy)
          const slope = gradients["logProbs"]![t]! * ofLogProb + (gradients["entropy"]?.[t] ?? 0) * ofEntropy
          gradient[t * vocabulary + v]! += slope / temperature
        }
      })
    },
  )

/** A critic that knows the position alone. */
export const fakeCritic = (): FakeModel =>
  fakeModel(
    POSITIONS,
    (parameters, sequence) => ({ values: parameters.slice(0, completionOf(sequence).length) }),
    ({ gradient }, _, __, gradients) => gradients["values"]!.forEach((g, t) => (gradient[t]! += g)),
  )
