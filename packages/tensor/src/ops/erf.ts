/**
 * erf(x) in WGSL, f32 and vec4f alike: the rational approximation of Eigen and XLA on [−4, 4], right to a few units in
 * the last place. `x` is a name.
 */
export const erfWgsl = (x: string): string => {
  // Not by clamp, in which drivers may lose a NaN.
  const clamped = `select(${x}, 4.0 * sign(${x}), abs(${x}) > 4.0 * one)`
  const square = `(${clamped} * ${clamped})`
  const polynomial = ([highest, ...rest]: readonly number[]): string =>
    rest.reduce((sum, coefficient) => `fma(${sum}, ${square}, ${coefficient} * one)`, `(${highest} * one)`)
  return `(${clamped} * ${polynomial(numerator)} / ${polynomial(denominator)})`
}

const numerator = [
  -2.72614225801306e-10, 2.77068142495902e-8, -2.10102402082508e-6, -5.69250639462346e-5, -7.34990630326855e-4,
  -2.95459980854025e-3, -1.60960333262415e-2,
]
const denominator = [
  -1.45660718464996e-5, -2.13374055278905e-4, -1.68282697438203e-3, -7.37332916720468e-3, -1.42647390514189e-2,
]

/** erf(x) in float64: its series near 0, the continued fraction of erfc beyond. */
export const erf = (x: number): number => {
  const z = Math.abs(x)
  if (z > 6) return Math.sign(x)
  if (z < 2.5) {
    let [term, sum] = [x, x]
    for (let n = 1; Math.abs(term) > 1e-17; n++) {
      term *= (-x * x) / n
      sum += term / (2 * n + 1)
    }
    return (2 / Math.sqrt(Math.PI)) * sum
  }
  let fraction = 0
  for (let n = 60; n > 0; n--) fraction = n / 2 / (z + fraction)
  return Math.sign(x) * (1 - Math.exp(-z * z) / Math.sqrt(Math.PI) / (z + fraction))
}
