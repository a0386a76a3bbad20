/**
 * Functions that WGSL lacks, or for which it promises too little, over `T` (f32 or vec4f). Series, not differences: they
 * keep their digits near 0.
 */

/** log(1 + x) as 2 artanh(x / (2 + x)) near 0. NaN takes the way of the series, which carries it on; so below. */
export const log1pWgsl = `
fn log1p(x: T) -> T {
  let s = x / (x + T(2.0)); let z = s * s;
  let series = T(2.0) * s * (one + z * (T(1.0 / 3.0) + z * (T(0.2) + z * (T(1.0 / 7.0) + z * (T(1.0 / 9.0) + z * (T(1.0 / 11.0) + z * T(1.0 / 13.0)))))));
  return select(series, log(one + x), abs(x) >= T(0.4));
}`

/** eˣ − 1 as its Taylor series near 0. */
export const expm1Wgsl = `
fn expm1(x: T) -> T {
  var series = one + x * T(1.0 / 9.0);
  series = one + x * T(0.125) * series; series = one + x * T(1.0 / 7.0) * series; series = one + x * T(1.0 / 6.0) * series;
  series = one + x * T(0.2) * series; series = one + x * T(0.25) * series; series = one + x * T(1.0 / 3.0) * series;
  series = one + x * T(0.5) * series;
  return select(x * series, exp(x) - one, abs(x) >= T(0.5));
}`

/** tanh(x) over `type`, for which WGSL promises digits after the point alone: near 0 the polynomial of S. Moshier's Cephes. */
export const tanhWgsl = (type: "T" | "f32"): string => `
fn hyperbolic(x: ${type}) -> ${type} {
  let z = x * x;
  let near = x + x * z * (${type}(-3.33332819422e-1) + z * (${type}(1.33314422036e-1) + z * (${type}(-5.37397155531e-2) + z * (${type}(2.06390887954e-2) - z * ${type}(5.70498872745e-3)))));
  let far = ${type}(1.0) - ${type}(2.0) / (${type}(1.0) + exp(${type}(2.0) * abs(x)));
  return select(near, select(far, -far, x < ${type}(0.0)), abs(x) >= ${type}(0.625));
}`

/**
 * aᵇ for any a: WGSL's own pow knows a ≥ 0 only. Whole exponents below 16 are products, by their four bits. What has no
 * power is the logarithm of a negative number, NaN.
 */
export const powWgsl = `
fn power(a: T, b: T) -> T {
  var product = one; var square = a; var rest = abs(b);
  for (var bit = 0; bit < 4; bit++) {
    let half = floor(rest * T(0.5));
    product *= select(one, square, rest > half + half);
    square *= square; rest = half;
  }
  let size = pow(abs(a), abs(b));
  let large = select(size, -size, (a < zero) & (abs(b) % T(2.0) == one));
  let up = select(large, product, (abs(b) < T(16.0)) & (b == floor(b)));
  let nothing = (a - a) / (a - a);
  return select(nothing, select(up, one / up, b < zero), (a >= zero) | (b == floor(b)));
}`

/** `value`, a logarithm of x where x > 0; −∞ at 0 and NaN below, where drivers give what they like. */
export const logWgsl = `
fn logarithm(value: T, x: T) -> T {
  return select(select((x - x) / (x - x), -one / abs(x), x == zero), value, x > zero);
}`

/**
 * sin(x + quarters · π/2), where WGSL promises three digits, to f32's precision for |x| up to 10⁵. What remains of x after
 * whole quarter turns goes into the polynomials of S. Moshier's Cephes. π/2 comes in four parts (W. Cody and W. Waite,
 * 1980), the first three of 8 bits, whose products with up to 2¹⁶ turns are exact. Beyond, digits are lost; where what
 * remains is more than quarter turns could leave, the angle is taken for 0.
 */
export const sineWgsl = `
fn sine(x: T, quarters: T) -> T {
  let whole = round(x * T(${2 / Math.PI}));
  let rest = (((x - whole * T(1.5703125)) - whole * T(0.0004825592041015625)) - whole * T(1.2665987014770508e-06)) - whole * T(9.92093629470503e-10);
  let lost = abs(rest) > one;
  let r = select(rest, zero, lost); let turns = select(whole, zero, lost);
  let z = r * r;
  let s = r + r * z * (T(-1.6666654611e-1) + z * (T(8.3321608736e-3) - z * T(1.9515295891e-4)));
  let c = one - T(0.5) * z + z * z * (T(4.166664568298827e-2) + z * (T(-1.388731625493765e-3) + z * T(2.443315711809948e-5)));
  let quadrant = (turns + quarters) - T(4.0) * floor((turns + quarters) * T(0.25));
  let value = select(s, c, (quadrant == one) | (quadrant == T(3.0)));
  return select(value, -value, quadrant >= T(2.0));
}`
