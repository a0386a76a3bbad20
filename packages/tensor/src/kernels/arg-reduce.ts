import { computeType, type ComputeType } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { axisOf, splitAt } from "../ops/axes.ts"
import type { ReduceOptions } from "../ops/reduce.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"

type Extreme = "max" | "min"

interface Attributes {
  readonly axis: number
}

const kernel = (fn: Extreme, type: ComputeType): Kernel => ({
  name: `arg ${fn} ${type}`,
  params: { items: "u32", length: "u32", inner: "u32" },
  buffers: [reads("x", type), writes("out", "i32")],
  body: () => `${perItem(64, "p.items")}
  let base = (i / p.inner) * p.length * p.inner + i % p.inner;
  var best = x[base]; var place = 0u;
  for (var k = 1u; k < p.length; k++) {
    let candidate = x[base + k * p.inner];
    if (candidate ${fn === "max" ? ">" : "<"} best) { best = candidate; place = k; }
  }
  out[i] = i32(place);
}`,
})

const names = { max: "argMax", min: "argMin" } as const

const argOp = (fn: Extreme): FusedOp<Attributes> => ({
  name: names[fn],
  infer: ([x], { axis }) => [{ shape: x!.shape.toSpliced(axis, 1), dtype: "i32" }],
  lower: (emit, [x], [out], { axis }) => {
    const { outer, length, inner } = splitAt(x!.spec.shape, axis)
    const items = outer * inner
    emit.launch(kernel(fn, computeType(x!.spec.dtype)), [x!, out!], [items, length, inner], gridFor(items, 64))
  },
})

const ops = { max: argOp("max"), min: argOp("min") } as const

/** Index of the extreme element along `axis` (of the whole tensor, flattened, without one), the first of equals: i32. */
export const argReduce = (x: Tensor, fn: Extreme, axis?: number, { keepDims = false }: ReduceOptions = {}): Tensor => {
  if (axis === undefined) {
    const index = argReduce(x.reshape([x.size]), fn, 0)
    return keepDims ? index.reshape(x.shape.map(() => 1)) : index
  }
  const at = axisOf(names[fn], x.shape, axis)
  if (x.shape[at] === 0) throw new ShapeError(names[fn], "there is no element to choose")
  const index = applyFusedOne(ops[fn], [x], { axis: at })
  return keepDims ? index.unsqueeze(at) : index
}
