import { sizeOf, type ParameterSpec } from "./parameters.ts"

/**
 * Starting values of a parameter. They depend on `seed` and the parameter's name only, and are the same bits on every
 * machine: nothing but integer and correctly rounded IEEE operations is used (`Math.log` differs between engines).
 */
export const initialValues = ({ name, shape, initializer }: ParameterSpec, seed: number): Float32Array<ArrayBuffer> => {
  const values = new Float32Array(sizeOf(shape))
  if (initializer.kind === "constant") return values.fill(initializer.value)
  const random = xoshiro128(seed, name)
  if (initializer.kind === "uniform") return values.map(() => initializer.bound * (2 * random() - 1))
  // Marsaglia's polar method: two normal draws from a point in the unit disc.
  for (let i = 0; i < values.length; i += 2) {
    let x: number, y: number, square: number
    do {
      x = 2 * random() - 1
      y = 2 * random() - 1
      square = x * x + y * y
    } while (square >= 1 || square === 0)
    const scale = initializer.std * Math.sqrt((-2 * naturalLog(square)) / square)
    values[i] = x * scale
    if (i + 1 < values.length) values[i + 1] = y * scale
  }
  return values
}

/** Uniform numbers in [0, 1) with 53 random bits: xoshiro128** (Blackman & Vigna), seeded by a hash of seed and name. */
const xoshiro128 = (seed: number, name: string): (() => number) => {
  let hash = 0x811c9dc5
  const absorb = (byte: number) => (hash = Math.imul(hash ^ byte, 0x01000193))
  for (let shift = 0; shift < 64; shift += 8) absorb(Math.floor(seed / 2 ** shift) & 255)
  for (const byte of new TextEncoder().encode(name)) absorb(byte)
  const splitmix = () => {
    hash = (hash + 0x9e3779b9) | 0
    let z = Math.imul(hash ^ (hash >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return z ^ (z >>> 15)
  }
  let a = splitmix()
  let b = splitmix()
  let c = splitmix()
  let d = splitmix()
  const rotate = (x: number, k: number) => (x << k) | (x >>> (32 - k))
  const next = () => {
    const result = Math.imul(rotate(Math.imul(b, 5), 7), 9)
    const t = b << 9
    c ^= a
    d ^= b
    b ^= c
    a ^= d
    c ^= t
    d = rotate(d, 11)
    return result >>> 0
  }
  return () => ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) / 2 ** 53
}

/** ln x for 0 < x < 1: halving the exponent away, then the series of 2·artanh((m − 1)/(m + 1)) for m in [√½, √2). */
const naturalLog = (x: number): number => {
  let exponent = 0
  let m = x
  while (m < Math.SQRT1_2) {
    m *= 2
    exponent--
  }
  const t = (m - 1) / (m + 1)
  let sum = 0
  for (let n = 21; n >= 1; n -= 2) sum = sum * t * t + 1 / n
  return 2 * t * sum + exponent * Math.LN2
}
