/**
 * A 32-bit hash of whole numbers, with the finaliser of MurmurHash3 between them. It serves as a counter-based random
 * number generator: a draw is a function of its keys, so that row 7 is the same whichever rows were read before it.
 */
export const hash = (...keys: ReadonlyArray<number>): number => {
  let state = 0x9e3779b9
  for (const key of keys) {
    state = Math.imul(state ^ key, 0x85ebca6b)
    state = Math.imul(state ^ (state >>> 13), 0xc2b2ae35)
    state = (state ^ (state >>> 16)) + 0x9e3779b9
  }
  return (state ^ (state >>> 15)) >>> 0
}

/** A number in [0, 1) for these keys. */
export const uniform = (...keys: ReadonlyArray<number>): number => hash(...keys) / 2 ** 32
