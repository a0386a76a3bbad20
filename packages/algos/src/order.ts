/**
 * All randomness of a run is a pure function of its seed and the step, so there is no generator whose state could be
 * lost or disturbed: a resumed run draws what an uninterrupted one would have drawn.
 */

/** A well-mixed 32-bit hash of two 32-bit numbers (the finaliser of MurmurHash3 after each). */
export const hash32 = (a: number, b: number): number => {
  let h = mix(a ^ 0x9e3779b9)
  h = mix(h ^ (b + 0x85ebca6b))
  return h >>> 0
}

const mix = (value: number): number => {
  let h = value | 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return h ^ (h >>> 16)
}

/** Key of the sampling randomness of a step. */
export const rolloutSeed = (seed: number, step: number): number => hash32(hash32(seed, 0x726f6c6c), step)

/**
 * Where `index` goes in the permutation of 0 … size − 1 that belongs to `key`: a four-round Feistel network over the
 * next even power of two, walked until it lands inside (Black and Rogaway, "Ciphers with arbitrary finite domains").
 * Needs no memory, whatever the size.
 */
export const permute = (index: number, size: number, key: number): number => {
  const halfBits = Math.max(1, Math.ceil(Math.log2(size) / 2))
  const half = 2 ** halfBits
  let position = index
  do {
    let left = Math.floor(position / half)
    let right = position % half
    for (let round = 0; round < 4; round++) {
      const mixed = hash32(hash32(key, round), right) % half
      const next = (left + mixed) % half
      left = right
      right = next
    }
    position = left * half + right
  } while (position >= size)
  return position
}

export interface DataOrder {
  readonly seed: number
  /** Rows of the split. */
  readonly size: number
  /** Rows of one step; at most `size`. */
  readonly rowsPerStep: number
}

/**
 * The rows of `step` (1 …), all different. Each epoch goes through the split in an order of its own and leaves out the
 * rows that no longer fill a step.
 */
export const rowsOfStep = ({ rowsPerStep, seed, size }: DataOrder, step: number): ReadonlyArray<number> => {
  const stepsPerEpoch = Math.floor(size / rowsPerStep)
  const epoch = Math.floor((step - 1) / stepsPerEpoch)
  const first = ((step - 1) % stepsPerEpoch) * rowsPerStep
  const key = hash32(hash32(seed, 0x64617461), epoch)
  return Array.from({ length: rowsPerStep }, (_, i) => permute(first + i, size, key))
}
