import { ShapeError } from "../errors.ts"

/**
 * Counter-based random numbers: PCG4D of M. Jarzynski and M. Olano, "Hash Functions for GPU Rendering" (JCGT 2020),
 * the same on host and GPU. Four keys in, four words out; no state.
 */
export const pcg4d = (x: number, y: number, z: number, w: number): readonly [number, number, number, number] => {
  const step = (v: number) => (Math.imul(v, 1664525) + 1013904223) >>> 0
  let [a, b, c, d] = [step(x), step(y), step(z), step(w)]
  const mix = () => {
    a = (a + Math.imul(b, d)) >>> 0
    b = (b + Math.imul(c, a)) >>> 0
    c = (c + Math.imul(a, b)) >>> 0
    d = (d + Math.imul(b, c)) >>> 0
  }
  mix()
  a = (a ^ (a >>> 16)) >>> 0
  b = (b ^ (b >>> 16)) >>> 0
  c = (c ^ (c >>> 16)) >>> 0
  d = (d ^ (d >>> 16)) >>> 0
  mix()
  return [a, b, c, d]
}

/** {@link pcg4d} in WGSL. */
export const pcg4dWgsl = `
fn pcg4d(key: vec4u) -> vec4u {
  var v = key * 1664525u + 1013904223u;
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  v ^= v >> vec4u(16u);
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  return v;
}`

/** What the last word of a counter is, so that no two distributions of one key, nor two ways to make keys, share numbers. */
export const streams = { uniform: 0, normal: 1, bits: 2, integers: 3, keys: 4, folds: 5 } as const

/** A word as a number in (0, 1): 24 bits, centred; the last one would round to 1 in f32. */
const unit = (word: number): number => Math.min(((word >>> 8) + 0.5) / 2 ** 24, 1 - 2 ** -24)

/** {@link unit} in WGSL: the same f32. */
export const unitWgsl = `
fn unit(word: u32) -> f32 { return min((f32(word >> 8u) + 0.5) * ${2 ** -24}, ${1 - 2 ** -24}); }`

/** Refuses what is no seed. */
export const checkSeed = (operation: string, seed: number): void => {
  if (!Number.isSafeInteger(seed)) throw new ShapeError(operation, `a seed is a whole number below 2⁵³, not ${seed}`)
}

export const uniformArray = (
  count: number,
  { seed, low = 0, high = 1 }: { readonly seed: number; readonly low?: number; readonly high?: number },
): Float32Array<ArrayBuffer> => {
  checkSeed("uniform", seed)
  const out = new Float32Array(count)
  for (let i = 0; i < count; i += 4) {
    const words = pcg4d(seed >>> 0, Math.floor(seed / 2 ** 32), i / 4, streams.uniform)
    for (let j = 0; j < 4 && i + j < count; j++) out[i + j] = low + (high - low) * unit(words[j]!)
  }
  return out
}

/** Box–Muller over {@link pcg4d}: four words make four normal deviates. */
export const normalArray = (
  count: number,
  { seed, mean = 0, std = 1 }: { readonly seed: number; readonly mean?: number; readonly std?: number },
): Float32Array<ArrayBuffer> => {
  checkSeed("normal", seed)
  const out = new Float32Array(count)
  for (let i = 0; i < count; i += 4) {
    const words = pcg4d(seed >>> 0, Math.floor(seed / 2 ** 32), i / 4, streams.normal)
    for (let pair = 0; pair < 2; pair++) {
      const radius = std * Math.sqrt(-2 * Math.log(unit(words[2 * pair]!)))
      const angle = 2 * Math.PI * unit(words[2 * pair + 1]!)
      out[i + 2 * pair] = mean + radius * Math.cos(angle)
      if (i + 2 * pair + 1 < count) out[i + 2 * pair + 1] = mean + radius * Math.sin(angle)
    }
  }
  return out
}
