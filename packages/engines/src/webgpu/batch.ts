import type { LossBatch, TokenSequence } from "@rlpt/core"
import { packSequences } from "@rlpt/models"
import { logProbChunkBytes } from "@rlpt/tensor"

/** Sequences as the host arrays that a forward pass reads, padded to sizes that few programs have to be recorded for. */
export interface PackedBatch {
  /** i32 [N]; rows beyond the last sequence are sequences of their own, of a few tokens. */
  readonly tokens: Int32Array<ArrayBuffer>
  readonly positions: Int32Array<ArrayBuffer>
  /** i32 [N, 4]. */
  readonly spans: Int32Array<ArrayBuffer>
  /** Row whose hidden state predicts each completion token, i32 [M]. */
  readonly scored: Int32Array<ArrayBuffer>
  /** The completion tokens, i32 [M]. */
  readonly targets: Int32Array<ArrayBuffer>
  /** Completion tokens of each sequence, in order; they fill the start of [M]. */
  readonly lengths: ReadonlyArray<number>
}

/**
 * The next of few sizes: quarters of a power of two from 64 on, so that at most a fifth is padding and a run needs a
 * handful of programs, whatever lengths it meets.
 */
export const bucket = (count: number): number => {
  if (count <= 64) return 64
  const step = Math.max(16, 2 ** (Math.floor(Math.log2(count - 1)) - 2))
  return Math.ceil(count / step) * step
}

/** Tokens of a sequence of padding: few, yet enough that attention has rows to take together. */
const paddingLength = 8

/** Makes sequences of the rows from `first` on. */
export const padSpans = (spans: Int32Array, first: number): void => {
  for (let row = first; row < spans.length / 4; row++) {
    const position = (row - first) % paddingLength
    spans.set([0, 0, row - position, position + 1], 4 * row)
  }
}

/** Bytes of logits that exist at one time while so many completion tokens of one batch are scored. */
export const scoringBytes = (tokens: number, vocabSize: number): number => logProbChunkBytes(bucket(tokens), vocabSize)

/** Packs prompt and completion of each sequence; the last token of a sequence predicts nothing and is left out. */
export const packBatch = (sequences: ReadonlyArray<TokenSequence>): PackedBatch => {
  const packed = packSequences(sequences.map(({ tokens }) => tokens.subarray(0, tokens.length - 1)))
  const rows = bucket(packed.tokens.length)
  const tokens = new Int32Array(rows)
  const positions = new Int32Array(rows)
  const spans = new Int32Array(4 * rows)
  tokens.set(packed.tokens)
  positions.set(packed.positions)
  spans.set(packed.spans)
  padSpans(spans, packed.tokens.length)

  const lengths = sequences.map((sequence) => sequence.tokens.length - sequence.promptLength)
  const total = lengths.reduce((sum, length) => sum + length, 0)
  const scored = new Int32Array(bucket(total))
  const targets = new Int32Array(scored.length)
  let at = 0
  let base = 0
  for (const { tokens, promptLength } of sequences) {
    for (let position = promptLength; position < tokens.length; position++, at++) {
      scored[at] = base + position - 1
      targets[at] = tokens[position]!
    }
    base += tokens.length - 1
  }
  return { tokens, positions, spans, scored, targets, lengths }
}

/** Per-token data of each sequence end to end, zero beyond: f32 [M]. */
export const packField = (
  { lengths, scored }: PackedBatch,
  values: ReadonlyArray<Float32Array>,
): Float32Array<ArrayBuffer> => {
  const packed = new Float32Array(scored.length)
  let at = 0
  lengths.forEach((length, i) => {
    packed.set(values[i]!.subarray(0, length), at)
    at += length
  })
  return packed
}

/** The inverse of {@link packField}. */
export const unpackField = ({ lengths }: PackedBatch, packed: Float32Array): ReadonlyArray<Float32Array> => {
  let at = 0
  return lengths.map((length) => {
    at += length
    return packed.slice(at - length, at)
  })
}

/** What is wrong with sequences for a model with this context, if anything: a message for the caller's defect. */
export const sequenceProblem = (sequences: ReadonlyArray<TokenSequence>, contextLength: number): string | undefined => {
  const short = sequences.findIndex(({ promptLength, tokens }) => promptLength < 1 || tokens.length <= promptLength)
  if (short >= 0) return `sequence ${short} needs a prompt and a completion of at least one token each`
  const long = sequences.findIndex(({ tokens }) => tokens.length > contextLength)
  if (long >= 0)
    return `sequence ${long} has ${sequences[long]!.tokens.length} tokens, more than the model's context of ${contextLength}`
  return undefined
}

/** What is wrong with the data of a batch, if anything. */
export const batchProblem = ({ sequences, fields, weights }: LossBatch): string | undefined => {
  for (const [name, values] of Object.entries({ ...fields, weights }))
    if (
      values.length !== sequences.length ||
      values.some((value, i) => value.length !== sequences[i]!.tokens.length - sequences[i]!.promptLength)
    )
      return `${name} must have one number for each completion token of each sequence`
  return undefined
}
