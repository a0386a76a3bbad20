import { showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"

const forward: Kernel = {
  name: "swiglu",
  params: { items: "u32", width: "u32" },
  buffers: [reads("x"), writes("out")],
  body: () => `${perItem(64, "p.items")}
  let at = (i / p.width) * 2u * p.width + i % p.width;
  let gate = x[at];
  out[i] = gate / (1.0 + exp(-gate)) * x[at + p.width];
}`,
}

const backward: Kernel = {
  name: "swiglu gradient",
  params: { items: "u32", width: "u32" },
  buffers: [reads("x"), reads("grad"), writes("out")],
  body: () => `${perItem(64, "p.items")}
  let at = (i / p.width) * 2u * p.width + i % p.width;
  let gate = x[at];
  let s = 1.0 / (1.0 + exp(-gate));
  let silu = gate * s;
  out[at] = grad[i] * x[at + p.width] * (s + silu * (1.0 - s));
  out[at + p.width] = grad[i] * silu;
}`,
}

const swigluOp: FusedOp<undefined> = {
  name: "swiglu",
  infer: ([x]) => {
    const [rows, width] = x!.shape
    if (x!.shape.length !== 2 || width! % 2 !== 0) 
      throw new ShapeError("swiglu", `needs [N, 2F], gate then up, got ${showShape(x!.shape)}`)
    return [{ shape: [rows!, width! / 2], dtype: "f32" }]
  },
  lower: (emit, [x], [out]) => {
    const [rows, width] = out!.spec.shape as [number, number]
    emit.launch(forward, [x!, out!], [rows * width, width], gridFor(rows * width, 64))
  },
  backward: ({ inputs: [x], grads: [g] }) => [applyFusedOne(gradientOp, [x!, g!], undefined)],
}

const gradientOp: FusedOp<undefined> = {
  name: "swiglu gradient",
  infer: ([x]) => [x!],
  lower: (emit, [x, grad], [out]) => {
    const [rows, width] = grad!.spec.shape as [number, number]
    emit.launch(backward, [x!, grad!, out!], [rows * width, width], gridFor(rows * width, 64))
  },
}

/** silu(gate) · up. x: [N, 2F], gate in the first half of each row, up in the second; result: [N, F]. */
export const swiglu = (x: Tensor): Tensor => applyFusedOne(swigluOp, [x], undefined)
