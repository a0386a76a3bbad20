/** Arithmetic mean; NaN of nothing. */
export const mean = (values: ArrayLike<number>): number => {
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += values[i]!
  return sum / values.length
}

/** Bessel-corrected variance; NaN of fewer than two values. */
export const variance = (values: ArrayLike<number>): number => {
  const centre = mean(values)
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += (values[i]! - centre) ** 2
  return values.length < 2 ? Number.NaN : sum / (values.length - 1)
}

/** Bessel-corrected standard deviation; NaN of fewer than two values. */
export const deviation = (values: ArrayLike<number>): number => Math.sqrt(variance(values))

/** All numbers of `parts` in one array. */
export const concat = (parts: ReadonlyArray<ArrayLike<number>>): Float64Array => {
  const all = new Float64Array(parts.reduce((length, part) => length + part.length, 0))
  let offset = 0
  for (const part of parts) {
    all.set(part, offset)
    offset += part.length
  }
  return all
}
