/** Functions that WGSL lacks, over `T` (f32 or vec4f). Series, not differences: they keep their digits near 0. */

/** log(1 + x) as 2 artanh(x / (2 + x)) near 0. */
export const log1pWgsl = `
fn log1p(x: T) -> T {
  let s = x / (x + T(2.0)); let z = s * s;
  let series = T(2.0) * s * (one + z * (T(1.0 / 3.0) + z * (T(0.2) + z * (T(1.0 / 7.0) + z * (T(1.0 / 9.0) + z * (T(1.0 / 11.0) + z * T(1.0 / 13.0)))))));
  return select(log(one + x), series, abs(x) < T(0.4));
}`

/** eˣ − 1 as its Taylor series near 0. */
export const expm1Wgsl = `
fn expm1(x: T) -> T {
  var series = one + x * T(1.0 / 9.0);
  series = one + x * T(0.125) * series; series = one + x * T(1.0 / 7.0) * series; series = one + x * T(1.0 / 6.0) * series;
  series = one + x * T(0.2) * series; series = one + x * T(0.25) * series; series = one + x * T(1.0 / 3.0) * series;
  series = one + x * T(0.5) * series;
  return select(exp(x) - one, x * series, abs(x) < T(0.5));
}`

/** aᵇ for any a: WGSL's own pow knows a ≥ 0 only. What has no power is the logarithm of a negative number, NaN. */
export const powWgsl = `
fn power(a: T, b: T) -> T {
  let up = pow(abs(a), abs(b));
  let size = select(up, one / up, b < zero);
  let whole = select(size, -size, (a < zero) & (abs(b) % T(2.0) == one));
  let nothing = log(-abs(a) - one);
  return select(select(nothing, whole, (a >= zero) | (b == floor(b))), one, b == zero);
}`
