import { applyFusedOne } from "../graph/apply.ts"
import type { Emitter, FusedOp, Operand } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { sizeOf } from "../dtype.ts"
import { tanhWgsl } from "../ops/special.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"

/** WGSL of the soft cap and of its slope where its value is y. */
export const softCapWgsl = `${tanhWgsl("f32")}
fn softCap(x: f32, cap: f32) -> f32 { return cap * hyperbolic(x / cap); }
fn softCapSlope(y: f32, cap: f32) -> f32 { let t = y / cap; return fma(-t, t, 1.0); }`

const forward: Kernel = {
  name: "soft cap",
  params: { items: "u32", cap: "f32" },
  buffers: [reads("x"), writes("out")],
  body: () => `${softCapWgsl}
${perItem(64, "p.items")}
  out[i] = softCap(x[i], p.cap);
}`,
}

const backward: Kernel = {
  name: "soft cap gradient",
  params: { items: "u32", cap: "f32" },
  buffers: [reads("y"), reads("grad"), writes("out")],
  body: () => `${softCapWgsl}
${perItem(64, "p.items")}
  out[i] = grad[i] * softCapSlope(y[i], p.cap);
}`,
}

/** out = softCap(x), for operations that cap on the way. */
export const launchSoftCap = (emit: Emitter, x: Operand, out: Operand, cap: number): void => {
  const items = sizeOf(x.spec.shape)
  emit.launch(forward, [x, out], [items, cap], gridFor(items, 64))
}

const softCapOp: FusedOp<{ readonly cap: number }> = {
  name: "softCap",
  floats: [0],
  infer: ([x]) => [x!],
  lower: (emit, [x], [out], { cap }) => launchSoftCap(emit, x!, out!, cap),
  backward: ({ outputs: [y], grads: [g], attributes }) => [applyFusedOne(gradientOp, [y!, g!], attributes)],
}

const gradientOp: FusedOp<{ readonly cap: number }> = {
  name: "softCap gradient",
  infer: ([y]) => [y!],
  lower: (emit, [y, g], [out], { cap }) => {
    const items = sizeOf(y!.spec.shape)
    emit.launch(backward, [y!, g!, out!], [items, cap], gridFor(items, 64))
  },
}

/** cap · tanh(x / cap), which keeps values within ±cap (I. Bello et al., 2016; Gemma 2). Any shape. */
export const softCap = (x: Tensor, cap: number): Tensor => applyFusedOne(softCapOp, [x], { cap })
