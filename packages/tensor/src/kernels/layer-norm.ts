import { sameShape, showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFused, applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"

/** Mean of an expression over a row: blocks of 64 in order, then the blocks. */
const rowMean = (name: string, term: string) => `
  var ${name} = 0.0;
  for (var block = 0u; block < p.width; block += 64u) {
    var part = 0.0;
    for (var k = block; k < min(block + 64u, p.width); k++) { part += ${term}; }
    ${name} += part;
  }
  ${name} /= f32(p.width);`

const forward: Kernel = {
  name: "layerNorm",
  params: { rows: "u32", width: "u32", eps: "f32" },
  buffers: [reads("x"), reads("weight"), reads("bias"), writes("out"), writes("mean"), writes("inverse")],
  body: () => `${perItem(64, "p.rows")}
  let at = i * p.width;
  ${rowMean("center", "x[at + k]")}
  ${rowMean("variance", "(x[at + k] - center) * (x[at + k] - center)")}
  let scale = inverseSqrt(variance + p.eps);
  for (var k = 0u; k < p.width; k++) { out[at + k] = fma((x[at + k] - center) * scale, weight[k], bias[k]); }
  mean[i] = center; inverse[i] = scale;
}`,
}

const backward: Kernel = {
  name: "layerNorm gradient",
  params: { rows: "u32", width: "u32" },
  buffers: [reads("x"), reads("weight"), reads("mean"), reads("inverse"), reads("grad"), writes("out")],
  body: () => `${perItem(64, "p.rows")}
  let at = i * p.width;
  let center = mean[i]; let scale = inverse[i];
  ${rowMean("shift", "grad[at + k] * weight[k]")}
  ${rowMean("pull", "grad[at + k] * weight[k] * (x[at + k] - center) * scale")}
  for (var k = 0u; k < p.width; k++) {
    out[at + k] = scale * (grad[at + k] * weight[k] - shift - (x[at + k] - center) * scale * pull);
  }
}`,
}

const normOp: FusedOp<{ readonly eps: number }> = {
  name: "layerNorm",
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
    const [rows, width] = inputs[0]!.spec.shape as [number, number]
    emit.launch(forward, [...inputs, ...outputs], [rows, width, eps], gridFor(rows, 64))
  },
  backward: ({ inputs: [x, weight], outputs: [, mean, inverse], grads: [g] }) => {
    const column = (perRow: Tensor) => perRow.reshape([x!.shape[0]!, 1])
    return [
      applyFusedOne(gradientOp, [x!, weight!, mean!, inverse!, g!], undefined),
      g!
        .mul(x!.sub(column(mean!)))
        .mul(column(inverse!))
        .sum(0),
      g!.sum(0),
    ]
  },
}

const gradientOp: FusedOp<undefined> = {
  name: "layerNorm gradient",
  infer: ([x]) => [x!],
  lower: (emit, inputs, [out]) => {
    const [rows, width] = inputs[0]!.spec.shape as [number, number]
    emit.launch(backward, [...inputs, out!], [rows, width], gridFor(rows, 64))
  },
}

/**
 * (x − mean) / √(variance + eps) · weight + bias over the last axis, the variance being the mean square deviation.
 * x: [N, D], weight and bias: [D]. J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer Normalization" (2016). Both means are
 * summed in blocks of 64, in order.
 */
export const layerNorm = (x: Tensor, weight: Tensor, bias: Tensor, eps: number): Tensor =>
  applyFused(normOp, [x, weight, bias], { eps })[0]!
