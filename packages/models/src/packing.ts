/** Sequences laid end to end, as host arrays of {@link PackedTokens}. */
export interface PackedArrays {
  readonly tokens: Int32Array<ArrayBuffer>
  readonly positions: Int32Array<ArrayBuffer>
  /** Row-major [N, 4]. */
  readonly spans: Int32Array<ArrayBuffer>
}

/** Packs sequences for a causal forward pass without a cache: each token sees its own sequence up to itself. */
export const packSequences = (sequences: ReadonlyArray<ArrayLike<number>>): PackedArrays => {
  const total = sequences.reduce((sum, { length }) => sum + length, 0)
  const tokens = new Int32Array(total)
  const positions = new Int32Array(total)
  const spans = new Int32Array(4 * total)
  let base = 0
  for (const sequence of sequences) {
    tokens.set(sequence, base)
    for (let position = 0; position < sequence.length; position++) {
      positions[base + position] = position
      spans.set([0, 0, base, position + 1], 4 * (base + position))
    }
    base += sequence.length
  }
  return { tokens, positions, spans }
}
