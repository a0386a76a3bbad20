import type { MapName } from "../ops/table.ts"
import type { Tensor } from "./tensor.ts"

/**
 * The element-wise methods of a tensor: one for each row of the operation table, differentiable where the row has a
 * gradient. Operands broadcast by NumPy's rules and have one compute type (f32, i32 or u32); a number takes the other
 * operand's. A run of these calls becomes one kernel.
 */
export abstract class Elementwise {
  /** Applies a row of the table to this tensor and `others`. */
  protected abstract map(fn: MapName, ...others: readonly (Tensor | number)[]): Tensor

  add(other: Tensor | number): Tensor {
    return this.map("add", other)
  }
  sub(other: Tensor | number): Tensor {
    return this.map("sub", other)
  }
  mul(other: Tensor | number): Tensor {
    return this.map("mul", other)
  }
  /** Quotient; of integers, rounded towards zero. */
  div(other: Tensor | number): Tensor {
    return this.map("div", other)
  }
  /** Remainder with the sign of the divisor, as Python's `%`: this − other · ⌊this / other⌋. */
  remainder(other: Tensor | number): Tensor {
    return this.map("remainder", other)
  }
  minimum(other: Tensor | number): Tensor {
    return this.map("minimum", other)
  }
  maximum(other: Tensor | number): Tensor {
    return this.map("maximum", other)
  }
  /** Limits each element to [low, high]; a bound that is null or left out is none. The gradient passes where it lies within. */
  clamp(low: number | null = null, high: number | null = null): Tensor {
    if (low === null) return this.minimum(high ?? Infinity)
    return high === null ? this.maximum(low) : this.maximum(low).minimum(high)
  }
  /** `this` to the power of `exponent`. A negative base has powers of whole exponents only; others are NaN. */
  pow(exponent: Tensor | number): Tensor {
    if (exponent === 1) return this.map("mul", 1)
    if (exponent === 2) return this.square()
    if (exponent === 0.5) return this.sqrt()
    if (exponent === -1) return this.reciprocal()
    return this.map("pow", exponent)
  }
  /** Angle of the point (other, this), in (−π, π]. */
  atan2(other: Tensor | number): Tensor {
    return this.map("atan2", other)
  }

  neg(): Tensor {
    return this.map("neg")
  }
  abs(): Tensor {
    return this.map("abs")
  }
  /** −1, 0 or 1. */
  sign(): Tensor {
    return this.map("sign")
  }
  square(): Tensor {
    return this.map("square")
  }
  reciprocal(): Tensor {
    return this.map("reciprocal")
  }
  sqrt(): Tensor {
    return this.map("sqrt")
  }
  rsqrt(): Tensor {
    return this.map("rsqrt")
  }
  exp(): Tensor {
    return this.map("exp")
  }
  /** 2ˣ. */
  exp2(): Tensor {
    return this.map("exp2")
  }
  /** eˣ − 1, without the loss of digits near 0. */
  expm1(): Tensor {
    return this.map("expm1")
  }
  log(): Tensor {
    return this.map("log")
  }
  log2(): Tensor {
    return this.map("log2")
  }
  /** log(1 + x), without the loss of digits near 0. */
  log1p(): Tensor {
    return this.map("log1p")
  }
  sin(): Tensor {
    return this.map("sin")
  }
  cos(): Tensor {
    return this.map("cos")
  }
  tan(): Tensor {
    return this.map("tan")
  }
  tanh(): Tensor {
    return this.map("tanh")
  }
  /** The error function, 2/√π · ∫₀ˣ e^(−t²) dt. */
  erf(): Tensor {
    return this.map("erf")
  }
  floor(): Tensor {
    return this.map("floor")
  }
  ceil(): Tensor {
    return this.map("ceil")
  }
  /** The nearest whole number, of two equally near the even one. */
  round(): Tensor {
    return this.map("round")
  }
  /** Drops the fraction. */
  trunc(): Tensor {
    return this.map("trunc")
  }

  sigmoid(): Tensor {
    return this.map("sigmoid")
  }
  /** x · sigmoid(x), also called swish. */
  silu(): Tensor {
    return this.map("silu")
  }
  relu(): Tensor {
    return this.map("relu")
  }
  /** x where x > 0, elsewhere `slope` · x. */
  leakyRelu(slope = 0.01): Tensor {
    return this.map("leakyRelu", slope)
  }
  /** x where x > 0, elsewhere `alpha` · (eˣ − 1). */
  elu(alpha = 1): Tensor {
    return this.map("elu", alpha)
  }
  /** log(1 + eˣ). */
  softplus(): Tensor {
    return this.map("softplus")
  }
  /** Gaussian error linear unit, x · Φ(x) (D. Hendrycks and K. Gimpel, 2016). */
  gelu(): Tensor {
    return this.map("gelu")
  }
  /** Its approximation by tanh: PyTorch's `gelu(approximate="tanh")`, Hugging Face's `gelu_new`. */
  geluTanh(): Tensor {
    return this.map("geluTanh")
  }

  /** The same value, through which no gradient passes. */
  stopGradient(): Tensor {
    return this.map("stopGradient")
  }

  /** Comparisons give 1 where they hold and 0 elsewhere, as f32 whatever is compared, without gradient. */
  equal(other: Tensor | number): Tensor {
    return this.map("equal", other)
  }
  notEqual(other: Tensor | number): Tensor {
    return this.map("notEqual", other)
  }
  greater(other: Tensor | number): Tensor {
    return this.map("greater", other)
  }
  less(other: Tensor | number): Tensor {
    return this.map("less", other)
  }
  greaterEqual(other: Tensor | number): Tensor {
    return this.map("greaterEqual", other)
  }
  lessEqual(other: Tensor | number): Tensor {
    return this.map("lessEqual", other)
  }
  /** 1 where the element is not a number, 0 elsewhere. */
  isNaN(): Tensor {
    return this.map("isNaN")
  }
  /** 1 where the element is a number and not infinite, 0 elsewhere. */
  isFinite(): Tensor {
    return this.map("isFinite")
  }

  /** Logical operations take what is not 0 as true, of any dtype, and give 1 or 0 as f32. */
  and(other: Tensor | number): Tensor {
    return this.notEqual(0).minimum(truth(other))
  }
  or(other: Tensor | number): Tensor {
    return this.notEqual(0).maximum(truth(other))
  }
  xor(other: Tensor | number): Tensor {
    return this.notEqual(0).notEqual(truth(other))
  }
  not(): Tensor {
    return this.equal(0)
  }
}

const truth = (value: Tensor | number): Tensor | number =>
  typeof value === "number" ? Number(value !== 0) : value.notEqual(0)
