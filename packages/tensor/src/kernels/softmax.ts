import { ShapeError } from "../errors.ts"
import { applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { axisOf, splitAt } from "../ops/axes.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"
import { largest, launchRows, type RowKernel } from "./rows/launch.ts"

interface Attributes {
  readonly axis: number
  readonly log: boolean
}

/** What becomes of an element `v` of a line, and what of the line it wants to know; `total` is Σ exp(v − top). */
const mapping = (log: boolean) =>
  log
    ? ({ name: "norm", of: "log(total)", result: "v - top - norm" } as const)
    : ({ name: "inverse", of: "1.0 / total", result: "exp(v - top) * inverse" } as const)

/** Lines along the last axis: rows. */
const rowKernel = (log: boolean): RowKernel => {
  const { name, of, result } = mapping(log)
  return {
    name: log ? "logSoftmax" : "softmax",
    block: 32,
    value: "x[at]",
    buffers: [reads("x", "T"), writes("out", "T")],
    body: ({ fold, each }) => `
  ${fold([largest("top", "v")])}
  ${fold([{ name: "total", next: (sum, of) => `${sum} + ${of("e")}` }], "let e = exp(v - top);")}
  let ${name} = ${of};
  ${each(["top", name], `out[at] = ${result};`)}`,
  }
}

/** The kernel of rows that steps through them most often: what it takes decides how rows are shared out. */
export const softmaxRows = rowKernel(false)

/** One invocation per line along another axis, in the order of {@link rowKernel}. */
const lineKernel = (log: boolean): Kernel => {
  const { name, of, result } = mapping(log)
  return {
    name: log ? "logSoftmax of lines" : "softmax of lines",
    params: { lines: "u32", length: "u32", inner: "u32" },
    buffers: [reads("x"), writes("out")],
    body: () => `${perItem(64, "p.lines")}
  let base = (i / p.inner) * p.length * p.inner + i % p.inner;
  var top = -0x1.fffffep+127f; var total = 0.0;
  for (var k = 0u; k < p.length; k++) { top = max(top, x[base + k * p.inner]); }
  for (var group = 0u; group < p.length; group += 256u) {
    var ofGroup = 0.0;
    for (var block = group; block < min(group + 256u, p.length); block += 32u) {
      var part = 0.0;
      for (var k = block; k < min(block + 32u, p.length); k++) { part += exp(x[base + k * p.inner] - top); }
      ofGroup += part;
    }
    total += ofGroup;
  }
  let ${name} = ${of};
  for (var k = 0u; k < p.length; k++) {
    let at = base + k * p.inner; let v = x[at];
    out[at] = ${result};
  }
}`,
  }
}

const softmaxOp: FusedOp<Attributes> = {
  name: "softmax",
  infer: ([x]) => {
    if (x!.dtype !== "f32") throw new ShapeError("softmax", `needs f32, got ${x!.dtype}`)
    return [x!]
  },
  lower: (emit, [x], [out], { axis, log }) => {
    const { outer, length, inner } = splitAt(x!.spec.shape, axis)
    if (length === 0) return
    if (inner === 1) return launchRows(emit, rowKernel(log), [outer, length], [x!, out!])
    emit.launch(lineKernel(log), [x!, out!], [outer * inner, length, inner], gridFor(outer * inner, 64))
  },
  backward: ({ outputs: [y], grads: [g], attributes: { axis, log } }) => {
    const total = (t: Tensor) => t.sum(axis, { keepDims: true })
    return [log ? g!.sub(y!.exp().mul(total(g!))) : y!.mul(g!.sub(total(g!.mul(y!))))]
  },
}

/**
 * eˣ / Σ eˣ along `axis`, or its logarithm, the largest element taken out first. Exponentials are summed in blocks of 32, in
 * order, then eight blocks, then those sums.
 */
export const softmax = (x: Tensor, axis: number, log = false): Tensor =>
  applyFusedOne(softmaxOp, [x], { axis: axisOf(log ? "logSoftmax" : "softmax", x.shape, axis), log })
