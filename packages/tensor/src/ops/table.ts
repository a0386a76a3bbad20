import type { Tensor } from "../graph/tensor.ts"
import { erf, erfWgsl } from "./erf.ts"

/**
 * One element-wise operation: how WGSL and JavaScript compute it, and its gradient. Kernel, autograd and tests follow
 * from the row.
 */
export interface MapRow {
  /** WGSL of the operands' expressions. Works on f32 and vec4f alike. */
  readonly wgsl: (...operands: string[]) => string
  /** The same in float64. */
  readonly reference: (...operands: number[]) => number
  /** Gradient of each operand from the gradient of the output; absent where there is none. */
  readonly backward?: (grad: Tensor, inputs: readonly Tensor[], output: Tensor) => readonly (Tensor | undefined)[]
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x))
/** √(2/π) · (x + 0.044715 · x³), kept where tanh is not yet ±1. */
const geluAngle = (x: string) =>
  `clamp(${Math.sqrt(2 / Math.PI)} * ${x} * fma(0.044715 * ${x}, ${x}, one), -9.0 * one, 9.0 * one)`
const comparison = (operator: string, holds: (a: number, b: number) => boolean): MapRow => ({
  wgsl: (a, b) => `select(zero, one, ${a} ${operator} ${b})`,
  reference: (a, b) => (holds(a!, b!) ? 1 : 0),
})

const rows = {
  add: { wgsl: (a, b) => `(${a} + ${b})`, reference: (a, b) => a! + b!, backward: (g) => [g, g] },
  sub: { wgsl: (a, b) => `(${a} - ${b})`, reference: (a, b) => a! - b!, backward: (g) => [g, g.neg()] },
  mul: {
    wgsl: (a, b) => `(${a} * ${b})`,
    reference: (a, b) => a! * b!,
    backward: (g, [a, b]) => [g.mul(b!), g.mul(a!)],
  },
  div: {
    wgsl: (a, b) => `(${a} / ${b})`,
    reference: (a, b) => a! / b!,
    backward: (g, [, b], y) => [g.div(b!), g.mul(y).div(b!).neg()],
  },
  minimum: {
    wgsl: (a, b) => `min(${a}, ${b})`,
    reference: (a, b) => Math.min(a!, b!),
    // On a tie the first operand takes the whole gradient, so that min(w·A, clip(w)·A) has one at w = 1.
    backward: (g, [a, b]) => [a!.lessEqual(b!).mul(g), a!.greater(b!).mul(g)],
  },
  maximum: {
    wgsl: (a, b) => `max(${a}, ${b})`,
    reference: (a, b) => Math.max(a!, b!),
    backward: (g, [a, b]) => [a!.greaterEqual(b!).mul(g), a!.less(b!).mul(g)],
  },
  pow: {
    wgsl: (a, b) => `pow(${a}, ${b})`,
    reference: (a, b) => a! ** b!,
    backward: (g, [a, b], y) => [g.mul(b!).mul(a!.pow(b!.sub(1))), g.mul(y).mul(a!.log())],
  },
  neg: { wgsl: (a) => `(-${a})`, reference: (a) => -a!, backward: (g) => [g.neg()] },
  exp: { wgsl: (a) => `exp(${a})`, reference: (a) => Math.exp(a!), backward: (g, _, y) => [g.mul(y)] },
  log: { wgsl: (a) => `log(${a})`, reference: (a) => Math.log(a!), backward: (g, [a]) => [g.div(a!)] },
  sqrt: { wgsl: (a) => `sqrt(${a})`, reference: (a) => Math.sqrt(a!), backward: (g, _, y) => [g.mul(0.5).div(y)] },
  rsqrt: {
    wgsl: (a) => `inverseSqrt(${a})`,
    reference: (a) => 1 / Math.sqrt(a!),
    backward: (g, [a], y) => [g.mul(-0.5).mul(y).div(a!)],
  },
  abs: {
    wgsl: (a) => `abs(${a})`,
    reference: (a) => Math.abs(a!),
    backward: (g, [a]) => [a!.greater(0).sub(a!.less(0)).mul(g)],
  },
  square: { wgsl: (a) => `(${a} * ${a})`, reference: (a) => a! * a!, backward: (g, [a]) => [g.mul(a!).mul(2)] },
  tanh: {
    // Beyond ±9 tanh is ±1 in f32, and some drivers overflow in exp.
    wgsl: (a) => `tanh(clamp(${a}, -9.0 * one, 9.0 * one))`,
    reference: (a) => Math.tanh(a!),
    backward: (g, _, y) => [g.mul(y.square().neg().add(1))],
  },
  sigmoid: {
    wgsl: (a) => `(one / (one + exp(-${a})))`,
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
  erf: {
    wgsl: (a) => erfWgsl(a!),
    reference: (a) => erf(a!),
    backward: (g, [a]) => [g.mul(a!.square().neg().exp()).mul(2 / Math.sqrt(Math.PI))],
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
  where: {
    wgsl: (condition, a, b) => `select(${b}, ${a}, ${condition} != zero)`,
    reference: (condition, a, b) => (condition !== 0 ? a! : b!),
    backward: (g, [condition]) => [undefined, condition!.where(g, 0), condition!.where(0, g)],
  },
  /** The value alone: no gradient passes. */
  stopGradient: { wgsl: (a) => a!, reference: (a) => a! },
} satisfies Record<string, MapRow>

export type MapName = keyof typeof rows

export const mapTable: Readonly<Record<MapName, MapRow>> = rows
