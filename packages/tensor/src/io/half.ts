const FLOAT32_BUFFER = new Float32Array(1)
const FLOAT32_BITS = new Uint32Array(FLOAT32_BUFFER.buffer)

/** bfloat16 bit patterns → float32. Exact: a bfloat16 is the upper half of a float32. NaN payloads are kept. */
export const bfloat16ToFloat32 = (bits: Uint16Array): Float32Array<ArrayBuffer> => {
  const out = new Uint32Array(bits.length)
  for (let i = 0; i < bits.length; i++) out[i] = bits[i]! << 16
  return new Float32Array(out.buffer)
}

/** float32 → bfloat16 bit patterns, rounded to nearest, ties to even. NaN stays NaN. */
export const float32ToBfloat16 = (values: Float32Array): Uint16Array<ArrayBuffer> => {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const out = new Uint16Array(values.length)
  for (let i = 0; i < bits.length; i++) {
    const b = bits[i]!
    const isNaN = (b & 0x7fffffff) > 0x7f800000
    // A NaN whose payload sits in the lower half would turn into infinity: set its quiet bit instead of rounding.
    out[i] = isNaN ? (b >>> 16) | 0x40 : (b + 0x7fff + ((b >>> 16) & 1)) >>> 16
  }
  return out
}

/** IEEE 754 binary16 bit patterns → float32. Exact, subnormals included. NaN payloads are kept. */
export const float16ToFloat32 = (bits: Uint16Array): Float32Array<ArrayBuffer> => {
  const out = new Uint32Array(bits.length)
  for (let i = 0; i < bits.length; i++) {
    const h = bits[i]!
    const sign = (h & 0x8000) << 16
    const exponent = (h >>> 10) & 0x1f
    const fraction = h & 0x3ff
    if (exponent === 0) {
      FLOAT32_BUFFER[0] = fraction * 2 ** -24
      out[i] = sign | FLOAT32_BITS[0]!
    } else {
      out[i] = sign | (exponent === 31 ? 0x7f800000 : (exponent + 112) << 23) | (fraction << 13)
    }
  }
  return new Float32Array(out.buffer)
}

/** float32 → IEEE 754 binary16 bit patterns, rounded to nearest, ties to even; |x| ≥ 65520 becomes infinity. */
export const float32ToFloat16 = (values: Float32Array): Uint16Array<ArrayBuffer> => {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const out = new Uint16Array(values.length)
  for (let i = 0; i < bits.length; i++) {
    const b = bits[i]!
    out[i] = ((b >>> 16) & 0x8000) | magnitudeToFloat16(b & 0x7fffffff)
  }
  return out
}

const magnitudeToFloat16 = (b: number): number => {
  if (b > 0x7f800000) return 0x7e00 | ((b >>> 13) & 0x3ff)
  if (b >= 0x477ff000) return 0x7c00
  if (b >= 0x38800000) return (b - 0x38000000 + 0xfff + ((b >>> 13) & 1)) >>> 13
  // Below 2⁻¹⁴ the result is a multiple of 2⁻²⁴; up to and including 2⁻²⁵ it is zero.
  if (b <= 0x33000000) return 0
  const mantissa = (b & 0x7fffff) | 0x800000
  const shift = 126 - (b >>> 23)
  const remainder = mantissa & ((1 << shift) - 1)
  const half = 1 << (shift - 1)
  const floor = mantissa >>> shift
  return floor + (remainder > half || (remainder === half && (floor & 1) === 1) ? 1 : 0)
}
