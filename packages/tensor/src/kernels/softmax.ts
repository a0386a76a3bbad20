import { ShapeError } from "../errors.ts"
import { applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { axisOf, splitAt } from "../ops/axes.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"
import { exponentialParts } from "./exponentials.ts"
import { rowForm, rowLaunch, type RowKernel } from "./rows.ts"

interface Attributes {
  readonly axis: number
  readonly log: boolean
}

/** Lines along the last axis: rows. */
const rowKernel = (log: boolean): RowKernel => ({
  name: log ? "logSoftmax" : "softmax",
  buffers: [reads("x", "T"), writes("out", "T")],
  body: ({ exponentials, each }) => `
  ${exponentials((at) => `x[${at}]`)}
  ${log ? "let norm = log(total);" : "let inverse = 1.0 / total;"}
  ${log ? each(["top", "norm"], "out[at] = x[at] - top - norm;") : each(["top", "inverse"], "out[at] = exp(x[at] - top) * inverse;")}`,
})

/** One invocation per line along another axis, in the order of {@link rowKernel}. */
const lineKernel = (log: boolean): Kernel => ({
  name: log ? "logSoftmax of lines" : "softmax of lines",
  params: { lines: "u32", length: "u32", inner: "u32" },
  buffers: [reads("x"), writes("out")],
  body: () => {
    const { inBlock, join } = exponentialParts((k) => `x[base + (${k}) * p.inner]`, { width: 1, blockUnits: 64 })
    return `alias T = f32;
const lowest = -0x1.fffffep+127f;
${perItem(64, "p.lines")}
  let base = (i / p.inner) * p.length * p.inner + i % p.inner;
  let units = p.length;
  var top = lowest; var total = 0.0;
  for (var block = 0u; block < units; block += 64u) {
    ${inBlock}
    ${join((name) => `part_${name}`)}
  }
  ${log ? "let norm = log(total);" : "let inverse = 1.0 / total;"}
  for (var k = 0u; k < p.length; k++) {
    let at = base + k * p.inner;
    out[at] = ${log ? "x[at] - top - norm" : "exp(x[at] - top) * inverse"};
  }
}`
  },
})

const softmaxOp: FusedOp<Attributes> = {
  name: "softmax",
  infer: ([x]) => {
    if (x!.dtype !== "f32") throw new ShapeError("softmax", `needs f32, got ${x!.dtype}`)
    return [x!]
  },
  lower: (emit, [x], [out], { axis, log }) => {
    const { outer, length, inner } = splitAt(x!.spec.shape, axis)
    if (length === 0) return
    if (inner === 1) {
      const { kernel, grid } = rowLaunch(rowKernel(log), outer, rowForm(outer, length, emit.device))
      return emit.launch(kernel, [x!, out!], [outer, length], grid)
    }
    emit.launch(lineKernel(log), [x!, out!], [outer * inner, length, inner], gridFor(outer * inner, 64))
  },
  backward: ({ outputs: [y], grads: [g], attributes: { axis, log } }) => {
    const total = (t: Tensor) => t.sum(axis, { keepDims: true })
    return [log ? g!.sub(y!.exp().mul(total(g!))) : y!.mul(g!.sub(total(g!.mul(y!))))]
  },
}

/** eˣ / Σ eˣ along `axis`, or its logarithm, the largest element taken out first. */
export const softmax = (x: Tensor, axis: number, log = false): Tensor =>
  applyFusedOne(softmaxOp, [x], { axis: axisOf(log ? "logSoftmax" : "softmax", x.shape, axis), log })
