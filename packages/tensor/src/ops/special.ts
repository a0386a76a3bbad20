/**
 * Functions that WGSL lacks, or for which it promises too little, over `T` (f32 or vec4f). Series, not differences: they
 * keep their digits near 0.
 */

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
  let nothing = (a - a) / (a - a);
  return select(select(nothing, whole, (a >= zero) | (b == floor(b))), one, b == zero);
}`

/** `value`, a logarithm of x where x > 0; −∞ at 0 and NaN below, where drivers give what they like. */
export const logWgsl = `
fn logarithm(value: T, x: T) -> T {
  return select(select((x - x) / (x - x), -one / abs(x), x == zero), value, x > zero);
}`

/**
 * sin(x + quarters · π/2), to f32's precision for |x| up to some thousands, where WGSL promises three digits. What
 * remains of x after whole quarter turns (π/2 in three parts: W. Cody and W. Waite, 1980) goes into the polynomials of
 * S. Moshier's Cephes.
 */
export const sineWgsl = `
fn sine(x: T, quarters: T) -> T {
  let turns = round(x * T(${2 / Math.PI}));
  let r = ((x - turns * T(1.5703125)) - turns * T(4.837512969970703e-4)) - turns * T(7.549789948768648e-8);
  let z = r * r;
  let s = r + r * z * (T(-1.6666654611e-1) + z * (T(8.3321608736e-3) - z * T(1.9515295891e-4)));
  let c = one - T(0.5) * z + z * z * (T(4.166664568298827e-2) + z * (T(-1.388731625493765e-3) + z * T(2.443315711809948e-5)));
  let quadrant = (turns + quarters) - T(4.0) * floor((turns + quarters) * T(0.25));
  let value = select(s, c, (quadrant == one) | (quadrant == T(3.0)));
  return select(value, -value, quadrant >= T(2.0));
}`
