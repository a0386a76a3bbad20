import type { Tensor } from "../graph/tensor.ts"
import { erf, erfWgsl } from "./erf.ts"
import { expm1Wgsl, log1pWgsl, logWgsl, powWgsl, sineWgsl, tanhWgsl } from "./special.ts"

/**
 * One element-wise operation: how WGSL and JavaScript compute it, and its gradient. Kernel, autograd and tests follow
 * from the row.
 */
export interface MapRow {
  /**
   * WGSL of the operands' expressions, alike for one element and four. `T` is f32 or vec4f, `zero` and `one` are of it. NaN
   * stays NaN: comparisons with it are false, and what they choose then is computed from it.
   */
  readonly wgsl: (...operands: string[]) => string
  /** WGSL functions that the expression calls. */
  readonly declares?: string
  /** Operand types besides f32: `signed` adds i32, `any` u32 as well. */
  readonly types?: "signed" | "any"
  /** The result is a mask, f32 0 or 1, whatever the operands are. */
  readonly mask?: true
  /** The same in float64. */
  readonly reference: (...operands: number[]) => number
  /** Gradient of each operand from the gradient of the output; absent where there is none. */
  readonly backward?: (grad: Tensor, inputs: readonly Tensor[], output: Tensor) => readonly (Tensor | undefined)[]
}

/** On the bits: a driver may take for granted that numbers are finite. */
const isNaNWgsl = (a: string) => `((bitcast<$u32>(${a}) & $u32(0x7fffffffu)) > $u32(0x7f800000u))`
/** `value`, in which drivers may lose that `a` is NaN. */
const orNaN = (a: string, value: string) => `select(${value}, ${a}, ${isNaNWgsl(a)})`
/** max(a, 0), which is NaN where `a` is. */
const positive = (a: string) => `select(${a}, zero, ${a} <= zero)`
/** The lower or higher of two; a + b where they have no order, which is NaN. */
const extremum = (name: "min" | "max") => (a: string, b: string) =>
  `select(${a} + ${b}, ${name}(${a}, ${b}), (${a} <= ${b}) | (${a} >= ${b}))`

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x))
/** √(2/π) · (x + 0.044715 · x³), kept where tanh is not yet ±1. */
const geluAngle = (x: string) =>
  `clamp(${Math.sqrt(2 / Math.PI)} * ${x} * fma(0.044715 * ${x}, ${x}, one), -9.0 * one, 9.0 * one)`
const comparison = (operator: string, holds: (a: number, b: number) => boolean): MapRow => ({
  wgsl: (a, b) => `select(zero, one, ${a} ${operator} ${b})`,
  reference: (a, b) => (holds(a!, b!) ? 1 : 0),
  types: "any",
  mask: true,
})
/** A step function: its gradient is 0 wherever it has one. */
const step = (name: string, reference: (a: number) => number): MapRow => ({
  wgsl: (a) => `${name}(${a})`,
  reference: (a) => reference(a!),
})
const roundHalfToEven = (x: number) => {
  const below = Math.floor(x)
  return x - below === 0.5 ? below + (below % 2) : Math.round(x)
}

const rows = {
  add: { wgsl: (a, b) => `(${a} + ${b})`, types: "any", reference: (a, b) => a! + b!, backward: (g) => [g, g] },
  sub: { wgsl: (a, b) => `(${a} - ${b})`, types: "any", reference: (a, b) => a! - b!, backward: (g) => [g, g.neg()] },
  mul: {
    wgsl: (a, b) => `(${a} * ${b})`,
    types: "any",
    reference: (a, b) => a! * b!,
    backward: (g, [a, b]) => [g.mul(b!), g.mul(a!)],
  },
  div: {
    wgsl: (a, b) => `(${a} / ${b})`,
    types: "any",
    reference: (a, b) => a! / b!,
    backward: (g, [, b], y) => [g.div(b!), g.mul(y).div(b!).neg()],
  },
  remainder: {
    wgsl: (a, b) => `(${a} - ${b} * floor(${a} / ${b}))`,
    reference: (a, b) => a! - b! * Math.floor(a! / b!),
    backward: (g, [a, b]) => [g, g.mul(a!.div(b!).floor()).neg()],
  },
  minimum: {
    wgsl: extremum("min"),
    types: "any",
    reference: (a, b) => Math.min(a!, b!),
    // On a tie the first operand takes the whole gradient, so that min(w·A, clip(w)·A) has one at w = 1.
    backward: (g, [a, b]) => [a!.greater(b!).where(0, g), a!.lessEqual(b!).where(0, g)],
  },
  maximum: {
    wgsl: extremum("max"),
    types: "any",
    reference: (a, b) => Math.max(a!, b!),
    backward: (g, [a, b]) => [a!.less(b!).where(0, g), a!.greaterEqual(b!).where(0, g)],
  },
  pow: {
    wgsl: (a, b) => orNaN(b!, `power(${a}, ${b})`),
    declares: powWgsl,
    reference: (a, b) => a! ** b!,
    backward: (g, [a, b], y) => [
      // a⁰ is 1 for every a, and 0ᵇ is 0 for every b > 0.
      b!.equal(0).where(0, g.mul(b!).mul(a!.pow(b!.sub(1)))),
      a!.equal(0).mul(b!.greaterEqual(0)).where(0, g.mul(y).mul(a!.log())),
    ],
  },
  atan2: {
    wgsl: (a, b) => `atan2(${a}, ${b})`,
    reference: (a, b) => Math.atan2(a!, b!),
    backward: (g, [a, b]) => {
      const scaled = g.div(a!.square().add(b!.square()))
      return [scaled.mul(b!), scaled.mul(a!).neg()]
    },
  },
  neg: { wgsl: (a) => `(-${a})`, types: "signed", reference: (a) => -a!, backward: (g) => [g.neg()] },
  exp: { wgsl: (a) => orNaN(a!, `exp(${a})`), reference: (a) => Math.exp(a!), backward: (g, _, y) => [g.mul(y)] },
  log: {
    wgsl: (a) => `logarithm(log(${a}), ${a})`,
    declares: logWgsl,
    reference: (a) => Math.log(a!),
    backward: (g, [a]) => [g.div(a!)],
  },
  sqrt: { wgsl: (a) => `sqrt(${a})`, reference: (a) => Math.sqrt(a!), backward: (g, _, y) => [g.mul(0.5).div(y)] },
  rsqrt: {
    wgsl: (a) => `inverseSqrt(${a})`,
    reference: (a) => 1 / Math.sqrt(a!),
    backward: (g, [a], y) => [g.mul(-0.5).mul(y).div(a!)],
  },
  abs: {
    wgsl: (a) => `abs(${a})`,
    types: "any",
    reference: (a) => Math.abs(a!),
    backward: (g, [a]) => [a!.sign().mul(g)],
  },
  sign: {
    wgsl: (a) => `select(${a}, sign(${a}), abs(T(${a})) > zero)`,
    types: "signed",
    reference: (a) => Math.sign(a!),
  },
  floor: step("floor", Math.floor),
  ceil: step("ceil", Math.ceil),
  round: step("round", roundHalfToEven),
  trunc: step("trunc", Math.trunc),
  square: {
    wgsl: (a) => `(${a} * ${a})`,
    types: "any",
    reference: (a) => a! * a!,
    backward: (g, [a]) => [g.mul(a!).mul(2)],
  },
  reciprocal: {
    wgsl: (a) => `(one / ${a})`,
    reference: (a) => 1 / a!,
    backward: (g, _, y) => [g.mul(y.square()).neg()],
  },
  exp2: {
    wgsl: (a) => orNaN(a!, `exp2(${a})`),
    reference: (a) => 2 ** a!,
    backward: (g, _, y) => [g.mul(y).mul(Math.LN2)],
  },
  expm1: {
    wgsl: (a) => `expm1(${a})`,
    declares: expm1Wgsl,
    reference: (a) => Math.expm1(a!),
    backward: (g, _, y) => [g.mul(y.add(1))],
  },
  log2: {
    wgsl: (a) => `logarithm(log2(${a}), ${a})`,
    declares: logWgsl,
    reference: (a) => Math.log2(a!),
    backward: (g, [a]) => [g.div(a!).div(Math.LN2)],
  },
  log1p: {
    wgsl: (a) => `log1p(${a})`,
    declares: log1pWgsl,
    reference: (a) => Math.log1p(a!),
    backward: (g, [a]) => [g.div(a!.add(1))],
  },
  sin: {
    wgsl: (a) => `sine(${a}, zero)`,
    declares: sineWgsl,
    reference: (a) => Math.sin(a!),
    backward: (g, [a]) => [g.mul(a!.cos())],
  },
  cos: {
    wgsl: (a) => `sine(${a}, one)`,
    declares: sineWgsl,
    reference: (a) => Math.cos(a!),
    backward: (g, [a]) => [g.mul(a!.sin()).neg()],
  },
  tan: {
    wgsl: (a) => `(sine(${a}, zero) / sine(${a}, one))`,
    declares: sineWgsl,
    reference: (a) => Math.tan(a!),
    backward: (g, _, y) => [g.mul(y.square().add(1))],
  },
  erf: {
    wgsl: (a) => erfWgsl(a!),
    reference: (a) => erf(a!),
    backward: (g, [a]) => [g.mul(a!.square().neg().exp()).mul(2 / Math.sqrt(Math.PI))],
  },
  tanh: {
    wgsl: (a) => `hyperbolic(${a})`,
    declares: tanhWgsl("T"),
    reference: (a) => Math.tanh(a!),
    backward: (g, _, y) => [g.mul(y.square().neg().add(1))],
  },
  sigmoid: {
    wgsl: (a) => orNaN(a!, `(one / (one + exp(-${a})))`),
    reference: (a) => sigmoid(a!),
    backward: (g, _, y) => [g.mul(y).mul(y.neg().add(1))],
  },
  silu: {
    wgsl: (a) => `(${a} / (one + exp(-${a})))`,
    reference: (a) => a! * sigmoid(a!),
    backward: (g, [a], y) => {
      const s = a!.sigmoid()
      return [g.mul(s.add(y.mul(s.neg().add(1))))]
    },
  },
  relu: {
    wgsl: positive,
    reference: (a) => Math.max(a!, 0),
    backward: (g, [a]) => [a!.lessEqual(0).where(0, g)],
  },
  leakyRelu: {
    wgsl: (a, slope) => `select(${slope} * ${a}, ${a}, ${a} > zero)`,
    reference: (a, slope) => (a! > 0 ? a! : slope! * a!),
    backward: (g, [a, slope]) => [a!.greater(0).where(g, g.mul(slope!)), g.mul(a!.minimum(0))],
  },
  elu: {
    wgsl: (a, alpha) => `select(${alpha} * expm1(${a}), ${a}, ${a} > zero)`,
    declares: expm1Wgsl,
    reference: (a, alpha) => (a! > 0 ? a! : alpha! * Math.expm1(a!)),
    backward: (g, [a, alpha], y) => [a!.greater(0).where(g, g.mul(y.add(alpha!))), g.mul(a!.minimum(0).expm1())],
  },
  softplus: {
    wgsl: (a) => `(${positive(a!)} + log1p(exp(-abs(${a}))))`,
    declares: log1pWgsl,
    reference: (a) => Math.max(a!, 0) + Math.log1p(Math.exp(-Math.abs(a!))),
    backward: (g, [a]) => [g.mul(a!.sigmoid())],
  },
  gelu: {
    wgsl: (a) => `(0.5 * ${a} * (one + ${erfWgsl(`(${a} * ${Math.SQRT1_2})`)}))`,
    reference: (a) => 0.5 * a! * (1 + erf(a! * Math.SQRT1_2)),
    backward: (g, [a]) => {
      const density = a!
        .square()
        .mul(-0.5)
        .exp()
        .mul(1 / Math.sqrt(2 * Math.PI))
      return [g.mul(a!.mul(Math.SQRT1_2).erf().add(1).mul(0.5).add(a!.mul(density)))]
    },
  },
  geluTanh: {
    wgsl: (a) => `(0.5 * ${a} * (one + tanh(${geluAngle(a!)})))`,
    reference: (a) => 0.5 * a! * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (a! + 0.044715 * a! ** 3))),
    backward: (g, [a]) => {
      const square = a!.square()
      const t = a!
        .mul(square.mul(0.044715).add(1))
        .mul(Math.sqrt(2 / Math.PI))
        .tanh()
      const slope = square
        .mul(3 * 0.044715)
        .add(1)
        .mul(Math.sqrt(2 / Math.PI))
      return [g.mul(0.5).mul(t.add(1).add(a!.mul(t.square().neg().add(1)).mul(slope)))]
    },
  },
  greater: comparison(">", (a, b) => a > b),
  less: comparison("<", (a, b) => a < b),
  greaterEqual: comparison(">=", (a, b) => a >= b),
  lessEqual: comparison("<=", (a, b) => a <= b),
  equal: comparison("==", (a, b) => a === b),
  // Not by `!=`, which some drivers are told to deny of NaN.
  notEqual: { ...comparison("!=", (a, b) => a !== b), wgsl: (a, b) => `select(one, zero, ${a} == ${b})` },
  isNaN: {
    wgsl: (a) => `select(zero, one, ${isNaNWgsl(a!)})`,
    reference: (a) => (Number.isNaN(a) ? 1 : 0),
    mask: true,
  },
  isFinite: {
    wgsl: (a) => `select(zero, one, (bitcast<$u32>(${a}) & $u32(0x7fffffffu)) < $u32(0x7f800000u))`,
    reference: (a) => (Number.isFinite(a) ? 1 : 0),
    mask: true,
  },
  /** The condition is a mask; the branches have one type, any. */
  where: {
    types: "any",
    wgsl: (condition, a, b) => `select(${a}, ${b}, ${condition} == zero)`,
    reference: (condition, a, b) => (condition !== 0 ? a! : b!),
    backward: (g, [condition]) => [undefined, condition!.where(g, 0), condition!.where(0, g)],
  },
  /** The value alone: no gradient passes. */
  stopGradient: { wgsl: (a) => a!, types: "any", reference: (a) => a! },
} satisfies Record<string, MapRow>

export type MapName = keyof typeof rows

export const mapTable: Readonly<Record<MapName, MapRow>> = rows
