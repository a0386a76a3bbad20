import { describe, expect, test } from "vitest"
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from "../../src/io/half.ts"

const allPatterns = Uint16Array.from({ length: 65_536 }, (_, i) => i)
const bitsOf = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length)

/** Every exponent and sign, with fractions around the rounding boundaries of both 16-bit formats. */
const floats = (() => {
  const bits: number[] = []
  for (let top = 0; top < 512; top++) {
    for (const keep of [10, 7]) {
      const unit = 1 << (23 - keep)
      for (const multiple of [0, 1, 2, 3, 2 ** keep - 2, 2 ** keep - 1]) {
        for (const offset of [0, 1, unit / 2 - 1, unit / 2, unit / 2 + 1, unit - 1]) {
          bits.push(((top << 23) | (multiple * unit + offset)) >>> 0)
        }
      }
    }
    for (let shift = 0; shift < 23; shift++) bits.push(((top << 23) | (1 << shift)) >>> 0)
  }
  return new Float32Array(Uint32Array.from(bits).buffer)
})()

/** The neighbour of `x` among `candidates` that IEEE rounding picks, found by distance in float64. */
const nearest = (x: number, sortedPositive: Float32Array, maximum: number, nextBeyond: number): number => {
  const magnitude = Math.abs(x)
  let low = 0
  let high = sortedPositive.length - 1
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if (sortedPositive[middle]! <= magnitude) low = middle
    else high = middle - 1
  }
  const below = sortedPositive[low]!
  const above = low + 1 < sortedPositive.length ? sortedPositive[low + 1]! : nextBeyond
  // Among positive floats the pattern equals the index, so an even index is an even significand.
  const up = above - magnitude < magnitude - below || (above - magnitude === magnitude - below && low % 2 === 1)
  const rounded = up ? above : below
  return Math.sign(x) * (rounded > maximum ? Infinity : rounded)
}

describe.each([
  { name: "float16", widen: float16ToFloat32, narrow: float32ToFloat16, infinity: 0x7c00, beyond: 65_536 },
  { name: "bfloat16", widen: bfloat16ToFloat32, narrow: float32ToBfloat16, infinity: 0x7f80, beyond: 2 ** 128 },
])("$name", ({ widen, narrow, infinity, beyond }) => {
  test("every pattern survives the way to float32 and back", () => {
    const back = narrow(widen(allPatterns))
    const isNaN = (bits: number) => (bits & 0x7fff) > infinity
    const differing = allPatterns.filter((bits, i) => !isNaN(bits) && back[i] !== bits)
    expect([...differing]).toEqual([])
    expect(allPatterns.filter(isNaN).every((bits) => Number.isNaN(widen(Uint16Array.of(bits))[0]))).toBe(true)
    expect(allPatterns.filter(isNaN).every((bits) => isNaN(back[bits]!))).toBe(true)
  })

  test("float32 is rounded to the nearest value, ties to even", () => {
    const positive = widen(allPatterns.subarray(0, infinity))
    const rounded = widen(narrow(floats))
    const wrong = [...floats].flatMap((x, i) => {
      const expected = Number.isFinite(x) ? nearest(x, positive, positive.at(-1)!, beyond) : x
      return Object.is(rounded[i], expected) || (x === 0 && rounded[i] === 0) ? [] : [{ x, got: rounded[i], expected }]
    })
    expect(wrong).toEqual([])
  })
})

test("widened values are the ones the formats define", () => {
  const float16 = float16ToFloat32(Uint16Array.of(0x3c00, 0xc000, 0x7bff, 0x0001, 0x0400, 0x8000, 0xfc00))
  expect([...float16]).toEqual([1, -2, 65_504, 2 ** -24, 2 ** -14, -0, -Infinity])
  expect([...bitsOf(bfloat16ToFloat32(Uint16Array.of(0x3f80, 0x8001, 0x7fc1)))]).toEqual([
    0x3f80_0000, 0x8001_0000, 0x7fc1_0000,
  ])
})
