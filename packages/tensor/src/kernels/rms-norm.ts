import { showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { overRows } from "../ops/over-rows.ts"
import { reads, writes } from "../program/kernel.ts"
import { launchRows, type RowKernel } from "./rows/launch.ts"

const forward: RowKernel = {
  name: "rmsNorm",
  params: { eps: "f32", offset: "f32" },
  buffers: [reads("x", "T"), reads("weight", "T"), writes("out", "T"), writes("inverse")],
  body: ({ fold, each, once }) => `
  ${fold([{ name: "squares", next: (sum, of) => `fma(${of("v")}, ${of("v")}, ${sum})` }], "let v = x[at];")}
  let scale = inverseSqrt(squares / f32(p.width) + p.eps);
  ${each(["scale"], "out[at] = x[at] * scale * w;", "let w = weight[k] + p.offset;")}
  ${once("inverse[row] = scale;")}`,
}

const backward = (adding: boolean): RowKernel => ({
  name: `rmsNorm gradient${adding ? ", added" : ""}`,
  params: { offset: "f32" },
  buffers: [
    reads("x", "T"),
    reads("weight", "T"),
    reads("inverse"),
    reads("grad", "T"),
    ...(adding ? [reads("other", "T")] : []),
    writes("out", "T"),
  ],
  body: ({ fold, each }) => `
  let scale = inverse[row];
  ${fold([{ name: "dot", next: (sum, of) => `fma(${of("g")}, ${of("v")}, ${sum})` }], "let v = x[at]; let g = grad[at] * (weight[k] + p.offset);")}
  let pull = dot * scale * scale * scale / f32(p.width);
  ${each(["scale", "pull"], `out[at] = ${adding ? "other[at] + " : ""}(grad[at] * w * scale - x[at] * pull);`, "let w = weight[k] + p.offset;")}`,
})

interface Attributes {
  readonly eps: number
  readonly offset: number
}

const normOp: FusedOp<Attributes> = {
  name: "rmsNorm",
  floats: [0, 1],
  infer: ([x, weight]) => {
    if (x!.shape.length !== 2 || weight!.shape.length !== 1 || weight!.shape[0] !== x!.shape[1])
      throw new ShapeError("rmsNorm", `weight ${showShape(weight!.shape)} does not fit rows of ${showShape(x!.shape)}`)
    return [
      { shape: x!.shape, dtype: "f32" },
      { shape: [x!.shape[0]!], dtype: "f32" },
    ]
  },
  lower: (emit, [x, weight], [out, inverse], { eps, offset }) => {
    launchRows(emit, forward, x!.spec.shape as [number, number], [x!, weight!, out!, inverse!], [eps, offset])
  },
  backward: ({ inputs: [x, weight], outputs: [, inverse], grads: [g], attributes: { offset } }) => [
    applyFusedOne(gradientOp, [x!, weight!, inverse!, g!], { offset, adding: false }),
    g!
      .mul(x!)
      .mul(inverse!.reshape([x!.shape[0]!, 1]))
      .sum(0),
  ],
}

const gradientOp: FusedOp<{ readonly offset: number; readonly adding: boolean }> = {
  name: "rmsNorm gradient",
  infer: ([x]) => [x!],
  adding: ({ offset, adding }) => (adding ? undefined : { offset, adding: true }),
  lower: (emit, inputs, [out], { offset, adding }) => {
    launchRows(emit, backward(adding), inputs[0]!.spec.shape as [number, number], [...inputs, out!], [offset])
  },
}

/**
 * x / √(mean(x²) + eps) · (weight + offset) over the last axis. x: [..., D], weight: [D]. B. Zhang and R. Sennrich, "Root
 * Mean Square Layer Normalization" (2019); Gemma stores weights around 0 and adds an offset of 1. Squares are summed in
 * blocks of 64, in order.
 */
export const rmsNorm = (x: Tensor, weight: Tensor, eps: number, offset = 0): Tensor =>
  overRows("rmsNorm", x, (rows) => applyFusedOne(normOp, [rows, weight], { eps, offset }))
