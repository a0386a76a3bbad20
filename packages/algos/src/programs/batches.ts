import type { LossBatch, LossReport, TokenSequence } from "@rlpt/core"
import { Effect } from "effect"

/** `items` in runs of at most `size`. */
export const chunks = <A>(items: ReadonlyArray<A>, size: number): ReadonlyArray<ReadonlyArray<A>> =>
  Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size))

/** Applies `f` to at most `microBatchSize` sequences at a time and joins the results in order. */
export const inMicroBatches = Effect.fnUntraced(function* <A, E, R>(
  sequences: ReadonlyArray<TokenSequence>,
  microBatchSize: number,
  f: (sequences: ReadonlyArray<TokenSequence>) => Effect.Effect<ReadonlyArray<A>, E, R>,
) {
  return (yield* Effect.forEach(chunks(sequences, microBatchSize), f)).flat()
})

/** The same batch as micro-batches: their losses and gradients add up to those of the whole. */
export const splitBatch = (batch: LossBatch, microBatchSize: number): ReadonlyArray<LossBatch> =>
  chunks([...batch.sequences.keys()], microBatchSize).map((indices) => {
    const pick = <A>(values: ReadonlyArray<A>): ReadonlyArray<A> => indices.map((i) => values[i]!)
    return {
      sequences: pick(batch.sequences),
      fields: Object.fromEntries(Object.entries(batch.fields).map(([name, values]) => [name, pick(values)])),
      weights: pick(batch.weights),
      temperature: batch.temperature,
    }
  })

/** The report of a batch from those of its parts: losses add up, means weigh by tokens. */
export const mergeReports = (reports: ReadonlyArray<LossReport>): LossReport => {
  const metrics: Record<string, LossReport["metrics"][string]> = {}
  let loss = 0
  let tokens = 0
  for (const report of reports) {
    loss += report.loss
    for (const [name, metric] of Object.entries(report.metrics)) {
      const before = metrics[name]
      if (report.tokens === 0) continue
      metrics[name] =
        before === undefined ? metric : { ...metric, value: combine(before, tokens, metric, report.tokens) }
    }
    tokens += report.tokens
  }
  return { loss, tokens, metrics }
}

const combine = (
  a: LossReport["metrics"][string],
  tokensOfA: number,
  b: LossReport["metrics"][string],
  tokensOfB: number,
): number => {
  switch (b.reduce) {
    case "mean":
      return (a.value * tokensOfA + b.value * tokensOfB) / (tokensOfA + tokensOfB)
    case "min":
      return Math.min(a.value, b.value)
    case "max":
      return Math.max(a.value, b.value)
  }
}
