import { showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { mapTable } from "../ops/table.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"

/** What the gate goes through: a row of the operation table. */
export type Activation = "silu" | "gelu" | "geluTanh"

interface Attributes {
  readonly activation: Activation
}

/** What people call the unit, for errors. */
const names: Readonly<Record<Activation, string>> = { silu: "swiglu", gelu: "geglu", geluTanh: "geglu" }

/** WGSL of the activation, and of its slope at `x` where its value is `y`. */
const activationWgsl = (activation: Activation) => `
const one = 1.0;
fn act(x: f32) -> f32 { return ${mapTable[activation].wgsl("x")}; }
fn slope(x: f32, y: f32) -> f32 {
  ${slopes[activation]}
}`

const slopes: Readonly<Record<Activation, string>> = {
  silu: "let s = 1.0 / (1.0 + exp(-x)); return s + y * (1.0 - s);",
  gelu: `return 0.5 * (1.0 + ${mapTable.erf.wgsl(`(x * ${Math.SQRT1_2})`)}) + x * exp(-0.5 * x * x) * ${1 / Math.sqrt(2 * Math.PI)};`,
  geluTanh: `let angle = ${Math.sqrt(2 / Math.PI)} * x * (1.0 + 0.044715 * x * x);
  let t = tanh(clamp(angle, -9.0, 9.0));
  return 0.5 * (1.0 + t + x * (1.0 - t * t) * ${Math.sqrt(2 / Math.PI)} * (1.0 + ${3 * 0.044715} * x * x));`,
}

const forward = (activation: Activation): Kernel => ({
  name: `gated ${activation}`,
  params: { items: "u32", width: "u32" },
  buffers: [reads("x"), writes("out")],
  body: () => `${activationWgsl(activation)}
${perItem(64, "p.items")}
  let at = (i / p.width) * 2u * p.width + i % p.width;
  out[i] = act(x[at]) * x[at + p.width];
}`,
})

const backward = (activation: Activation): Kernel => ({
  name: `gated ${activation} gradient`,
  params: { items: "u32", width: "u32" },
  buffers: [reads("x"), reads("grad"), writes("out")],
  body: () => `${activationWgsl(activation)}
${perItem(64, "p.items")}
  let at = (i / p.width) * 2u * p.width + i % p.width;
  let gate = x[at];
  let value = act(gate);
  out[at] = grad[i] * x[at + p.width] * slope(gate, value);
  out[at + p.width] = grad[i] * value;
}`,
})

const gluOp: FusedOp<Attributes> = {
  name: "glu",
  infer: ([x], { activation }) => {
    const [rows, width] = x!.shape
    if (x!.shape.length !== 2 || width! % 2 !== 0)
      throw new ShapeError(names[activation], `needs [N, 2F], gate then up, got ${showShape(x!.shape)}`)
    return [{ shape: [rows!, width! / 2], dtype: "f32" }]
  },
  lower: (emit, [x], [out], { activation }) => {
    const [rows, width] = out!.spec.shape as [number, number]
    emit.launch(forward(activation), [x!, out!], [rows * width, width], gridFor(rows * width, 64))
  },
  backward: ({ inputs: [x], grads: [g], attributes }) => [applyFusedOne(gradientOp, [x!, g!], attributes)],
}

const gradientOp: FusedOp<Attributes> = {
  name: "glu gradient",
  infer: ([x]) => [x!],
  lower: (emit, [x, grad], [out], { activation }) => {
    const [rows, width] = grad!.spec.shape as [number, number]
    emit.launch(backward(activation), [x!, grad!, out!], [rows * width, width], gridFor(rows * width, 64))
  },
}

/**
 * activation(gate) · up. x: [N, 2F], gate in the first half of each row, up in the second; result: [N, F]. N. Shazeer,
 * "GLU Variants Improve Transformer" (2020).
 */
export const glu = (x: Tensor, activation: Activation): Tensor => applyFusedOne(gluOp, [x], { activation })

/** {@link glu} with silu, as in Llama. */
export const swiglu = (x: Tensor): Tensor => glu(x, "silu")
