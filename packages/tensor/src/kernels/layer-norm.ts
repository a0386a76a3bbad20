import { sameShape, showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { overRows } from "../ops/over-rows.ts"
import { reads, writes } from "../program/kernel.ts"
import { launchRows, type RowKernel } from "./rows/launch.ts"

const forward: RowKernel = {
  name: "layerNorm",
  params: { eps: "f32" },
  buffers: [
    reads("x", "T"),
    reads("weight", "T"),
    reads("bias", "T"),
    writes("out", "T"),
    writes("mean"),
    writes("inverse"),
  ],
  body: ({ moments, each, once }) => `
  ${moments((at) => `x[${at}]`)}
  let scale = inverseSqrt(squares / f32(p.width) + p.eps);
  ${each(["center", "scale"], "out[at] = fma((x[at] - center) * scale, w, b);", "let w = weight[k]; let b = bias[k];")}
  ${once("mean[row] = center; inverse[row] = scale;")}`,
}

const backward = (adding: boolean): RowKernel => ({
  name: `layerNorm gradient${adding ? ", added" : ""}`,
  buffers: [
    reads("x", "T"),
    reads("weight", "T"),
    reads("mean"),
    reads("inverse"),
    reads("grad", "T"),
    ...(adding ? [reads("other", "T")] : []),
    writes("out", "T"),
  ],
  body: ({ fold, each }) => `
  let center = mean[row]; let scale = inverse[row];
  ${fold(
    [
      { name: "shifts", next: (sum, of) => `${sum} + ${of("g")}` },
      { name: "pulls", next: (sum, of) => `fma(${of("g")}, ${of("n")}, ${sum})` },
    ],
    "let g = grad[at] * weight[k]; let n = (x[at] - center) * scale;",
  )}
  let shift = shifts / f32(p.width); let pull = pulls / f32(p.width);
  ${each(
    ["center", "scale", "shift", "pull"],
    `out[at] = ${adding ? "other[at] + " : ""}scale * (grad[at] * w - shift - (x[at] - center) * scale * pull);`,
    "let w = weight[k];",
  )}`,
})

const normOp: FusedOp<{ readonly eps: number }> = {
  name: "layerNorm",
  floats: [0, 1, 2],
  infer: ([x, weight, bias]) => {
    const [rows, width] = x!.shape
    if (x!.shape.length !== 2 || !sameShape(weight!.shape, [width!]) || !sameShape(bias!.shape, [width!]))
      throw new ShapeError(
        "layerNorm",
        `weight ${showShape(weight!.shape)} and bias ${showShape(bias!.shape)} do not fit rows of ${showShape(x!.shape)}`,
      )
    const perRow = { shape: [rows!], dtype: "f32" } as const
    return [{ shape: x!.shape, dtype: "f32" }, perRow, perRow]
  },
  lower: (emit, inputs, outputs, { eps }) => {
    launchRows(emit, forward, inputs[0]!.spec.shape as [number, number], [...inputs, ...outputs], [eps])
  },
  backward: ({ inputs: [x, weight], outputs: [, mean, inverse], grads: [g] }) => {
    const column = (perRow: Tensor) => perRow.reshape([x!.shape[0]!, 1])
    return [
      applyFusedOne(gradientOp, [x!, weight!, mean!, inverse!, g!], { adding: false }),
      g!
        .mul(x!.sub(column(mean!)))
        .mul(column(inverse!))
        .sum(0),
      g!.sum(0),
    ]
  },
}

const gradientOp: FusedOp<{ readonly adding: boolean }> = {
  name: "layerNorm gradient",
  infer: ([x]) => [x!],
  adding: ({ adding }) => (adding ? undefined : { adding: true }),
  lower: (emit, inputs, [out], { adding }) => {
    launchRows(emit, backward(adding), inputs[0]!.spec.shape as [number, number], [...inputs, out!])
  },
}

/**
 * (x − mean) / √(variance + eps) · weight + bias over the last axis, the variance being the mean square deviation.
 * x: [..., D], weight and bias: [D]. J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer Normalization" (2016). Both means are
 * taken of 16 elements, then of blocks of 64, then of those, in order.
 */
export const layerNorm = (x: Tensor, weight: Tensor, bias: Tensor, eps = 1e-5): Tensor =>
  overRows("layerNorm", x, (rows) => applyFusedOne(normOp, [rows, weight, bias], { eps }))
