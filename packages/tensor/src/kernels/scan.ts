import { computeType, type ComputeType } from "../dtype.ts"
import { applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { axisOf, splitAt } from "../ops/axes.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"

export interface ScanOptions {
  /** Runs from the last element to the first. */
  readonly reverse?: boolean
  /** Leaves the element itself out. */
  readonly exclusive?: boolean
}

interface Attributes extends Required<ScanOptions> {
  readonly fn: "sum" | "prod"
  readonly axis: number
}

/** One invocation per line along the axis, in order. */
const kernel = (fn: Attributes["fn"], exclusive: boolean, type: ComputeType): Kernel => ({
  name: `scan ${fn} ${type}${exclusive ? " exclusive" : ""}`,
  params: { lines: "u32", length: "u32", inner: "u32", reverse: "u32" },
  buffers: [reads("x", type), writes("out", type)],
  body: () => {
    const take = `total = total ${fn === "sum" ? "+" : "*"} x[at];`
    return `${perItem(64, "p.lines")}
  let base = (i / p.inner) * p.length * p.inner + i % p.inner;
  var total = ${type}(${fn === "sum" ? 0 : 1});
  for (var k = 0u; k < p.length; k++) {
    let at = base + select(k, p.length - 1u - k, p.reverse == 1u) * p.inner;
    ${exclusive ? `out[at] = total; ${take}` : `${take} out[at] = total;`}
  }
}`
  },
})

const scanOp: FusedOp<Attributes> = {
  name: "scan",
  infer: ([x]) => [{ shape: x!.shape, dtype: computeType(x!.dtype) }],
  lower: (emit, [x], [out], { fn, axis, reverse, exclusive }) => {
    const { outer, length, inner } = splitAt(x!.spec.shape, axis)
    const lines = outer * inner
    const program = kernel(fn, exclusive, computeType(x!.spec.dtype))
    emit.launch(program, [x!, out!], [lines, length, inner, Number(reverse)], gridFor(lines, 64))
  },
  backward: ({ inputs: [x], outputs: [y], grads: [g], attributes }) => {
    const back = { ...attributes, reverse: !attributes.reverse }
    if (attributes.fn === "sum") return [applyFusedOne(scanOp, [g!], back)]
    // d prefix / d element = prefix / element: exact unless an element is 0.
    return [applyFusedOne(scanOp, [g!.mul(y!)], { ...back, fn: "sum" }).div(x!)]
  },
}

/** Running sum along `axis`. */
export const cumSum = (x: Tensor, axis: number, { reverse = false, exclusive = false }: ScanOptions = {}): Tensor =>
  applyFusedOne(scanOp, [x], { fn: "sum", axis: axisOf("cumSum", x.shape, axis), reverse, exclusive })

/** For each element the product of all others along `axis`: the gradient of a product, zeros and all. */
export const productOfOthers = (x: Tensor, axis: number): Tensor => {
  const before = applyFusedOne(scanOp, [x], { fn: "prod", axis, reverse: false, exclusive: true })
  return before.mul(applyFusedOne(scanOp, [x], { fn: "prod", axis, reverse: true, exclusive: true }))
}
