import { showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFusedOne } from "../graph/apply.ts"
import type { Emitter, FusedOp, Operand } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { overRows } from "../ops/over-rows.ts"
import { mapTable } from "../ops/table.ts"
import { eachItem, itemParams, itemsGrid, reads, writes, type Kernel } from "../program/kernel.ts"

/** What the gate goes through: a row of the operation table. */
export type Activation = "silu" | "gelu" | "geluTanh"

interface Attributes {
  readonly activation: Activation
}

/** What people call the unit, for errors. */
const names: Readonly<Record<Activation, string>> = { silu: "swiglu", gelu: "geglu", geluTanh: "geglu" }

/** WGSL of the activation, and of its slope at `x` where its value is `y`, for one element or four. */
export const activationWgsl = (activation: Activation, type: "f32" | "vec4f"): string => `
const one = ${type}(1.0);
fn act(x: ${type}) -> ${type} { return ${mapTable[activation].wgsl("x")}; }
fn slope(x: ${type}, y: ${type}) -> ${type} {
  ${slopes[activation]}
}`

const slopes: Readonly<Record<Activation, string>> = {
  silu: "let s = one / (one + exp(-x)); return s + y * (one - s);",
  gelu: `return 0.5 * (one + ${mapTable.erf.wgsl(`(x * ${Math.SQRT1_2})`)}) + x * exp(-0.5 * x * x) * ${1 / Math.sqrt(2 * Math.PI)};`,
  geluTanh: `let angle = ${Math.sqrt(2 / Math.PI)} * x * (one + 0.044715 * x * x);
  let t = tanh(clamp(angle, -9.0 * one, 9.0 * one));
  return 0.5 * (one + t + x * (one - t * t) * ${Math.sqrt(2 / Math.PI)} * (one + ${3 * 0.044715} * x * x));`,
}

/** Elements that one invocation takes: four where rows are aligned. */
type Width = 4 | 1
const widthFor = (columns: number): Width => (columns % 4 === 0 ? 4 : 1)
const typeOf = (width: Width) => (width === 4 ? "vec4f" : "f32")

/** `p.width` counts what one invocation takes, in a row of the result. */
const pairOf = "let at = (i / p.width) * 2u * p.width + i % p.width;"

const forward = (activation: Activation, width: Width): Kernel => ({
  name: `gated ${activation}, by ${width}`,
  params: { ...itemParams, width: "u32" },
  buffers: [reads("x", typeOf(width)), writes("out", typeOf(width))],
  body: () => `${activationWgsl(activation, typeOf(width))}
${eachItem(`${pairOf}
    out[i] = act(x[at]) * x[at + p.width];`)}`,
})

const backward = (activation: Activation, width: Width): Kernel => ({
  name: `gated ${activation} gradient, by ${width}`,
  params: { ...itemParams, width: "u32" },
  buffers: [reads("x", typeOf(width)), reads("grad", typeOf(width)), writes("out", typeOf(width))],
  body: () => `${activationWgsl(activation, typeOf(width))}
${eachItem(`${pairOf}
    let gate = x[at]; let g = grad[i];
    let value = act(gate);
    out[at] = g * x[at + p.width] * slope(gate, value);
    out[at + p.width] = g * value;`)}`,
})

/** Launches a kernel over the elements of `gated`, whose rows are half as wide as those of its counterpart. */
const launch = (
  emit: Emitter,
  kernel: (width: Width) => Kernel,
  operands: readonly Operand[],
  gated: Operand,
): void => {
  const [rows, columns] = gated.spec.shape as [number, number]
  const width = widthFor(columns)
  const { params, grid } = itemsGrid((rows * columns) / width, emit.device)
  emit.launch(kernel(width), operands, [...params, columns / width], grid)
}

const gluOp: FusedOp<Attributes> = {
  name: "glu",
  floats: [0],
  infer: ([x], { activation }) => {
    const [rows, width] = x!.shape
    if (x!.shape.length !== 2 || width! % 2 !== 0)
      throw new ShapeError(names[activation], `needs [N, 2F], gate then up, got ${showShape(x!.shape)}`)
    return [{ shape: [rows!, width! / 2], dtype: "f32" }]
  },
  lower: (emit, [x], [out], { activation }) => launch(emit, (width) => forward(activation, width), [x!, out!], out!),
  backward: ({ inputs: [x], grads: [g], attributes: { activation } }) => [gluGradient(x!, g!, activation)],
}

const gradientOp: FusedOp<Attributes> = {
  name: "glu gradient",
  infer: ([x]) => [x!],
  lower: (emit, [x, grad], [out], { activation }) =>
    launch(emit, (width) => backward(activation, width), [x!, grad!, out!], grad!),
}

/** Gradient of {@link glu} at `x` [N, 2F] from that of its result [N, F]. */
export const gluGradient = (x: Tensor, gradient: Tensor, activation: Activation): Tensor =>
  applyFusedOne(gradientOp, [x, gradient], { activation })

/**
 * activation(gate) · up. x: [..., 2F], gate in the first half of each row, up in the second; result: [..., F]. N. Shazeer,
 * "GLU Variants Improve Transformer" (2020).
 */
export const glu = (x: Tensor, activation: Activation): Tensor =>
  overRows(names[activation], x, (rows) => applyFusedOne(gluOp, [rows], { activation }))

/** {@link glu} with silu, as in Llama. */
export const swiglu = (x: Tensor): Tensor => glu(x, "silu")
