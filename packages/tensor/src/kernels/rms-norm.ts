import { showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFused, applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"

const forward: Kernel = {
  name: "rmsNorm",
  params: { rows: "u32", width: "u32", eps: "f32", offset: "f32" },
  buffers: [reads("x"), reads("weight"), writes("out"), writes("inverse")],
  body: () => `${perItem(64, "p.rows")}
  let at = i * p.width;
  var squares = 0.0;
  for (var block = 0u; block < p.width; block += 64u) {
    var part = 0.0;
    for (var k = block; k < min(block + 64u, p.width); k++) { part = fma(x[at + k], x[at + k], part); }
    squares += part;
  }
  let scale = inverseSqrt(squares / f32(p.width) + p.eps);
  for (var k = 0u; k < p.width; k++) { out[at + k] = x[at + k] * scale * (weight[k] + p.offset); }
  inverse[i] = scale;
}`,
}

const backward: Kernel = {
  name: "rmsNorm gradient",
  params: { rows: "u32", width: "u32", offset: "f32" },
  buffers: [reads("x"), reads("weight"), reads("inverse"), reads("grad"), writes("out")],
  body: () => `${perItem(64, "p.rows")}
  let at = i * p.width;
  let scale = inverse[i];
  var dot = 0.0;
  for (var k = 0u; k < p.width; k++) { dot = fma(grad[at + k] * (weight[k] + p.offset), x[at + k], dot); }
  let pull = dot * scale * scale * scale / f32(p.width);
  for (var k = 0u; k < p.width; k++) {
    out[at + k] = grad[at + k] * (weight[k] + p.offset) * scale - x[at + k] * pull;
  }
}`,
}

interface Attributes {
  readonly eps: number
  readonly offset: number
}

const normOp: FusedOp<Attributes> = {
  name: "rmsNorm",
  infer: ([x, weight]) => {
    if (x!.shape.length !== 2 || weight!.shape.length !== 1 || weight!.shape[0] !== x!.shape[1])
      throw new ShapeError("rmsNorm", `weight ${showShape(weight!.shape)} does not fit rows of ${showShape(x!.shape)}`)
    return [
      { shape: x!.shape, dtype: "f32" },
      { shape: [x!.shape[0]!], dtype: "f32" },
    ]
  },
  lower: (emit, [x, weight], [out, inverse], { eps, offset }) => {
    const [rows, width] = x!.spec.shape as [number, number]
    emit.launch(forward, [x!, weight!, out!, inverse!], [rows, width, eps, offset], gridFor(rows, 64))
  },
  backward: ({ inputs: [x, weight], outputs: [, inverse], grads: [g], attributes }) => [
    applyFusedOne(gradientOp, [x!, weight!, inverse!, g!], attributes),
    g!
      .mul(x!)
      .mul(inverse!.reshape([x!.shape[0]!, 1]))
      .sum(0),
  ],
}

const gradientOp: FusedOp<Attributes> = {
  name: "rmsNorm gradient",
  infer: ([x]) => [x!],
  lower: (emit, inputs, [out], { offset }) => {
    const [rows, width] = inputs[0]!.spec.shape as [number, number]
    emit.launch(backward, [...inputs, out!], [rows, width, offset], gridFor(rows, 64))
  },
}

/**
 * x / √(mean(x²) + eps) · (weight + offset) over the last axis. x: [N, D], weight: [D]. B. Zhang and R. Sennrich, "Root
 * Mean Square Layer Normalization" (2019); Gemma stores weights around 0 and adds an offset of 1. Squares are summed in
 * blocks of 64, in order.
 */
export const rmsNorm = (x: Tensor, weight: Tensor, eps: number, offset = 0): Tensor =>
  applyFused(normOp, [x, weight], { eps, offset })[0]!
