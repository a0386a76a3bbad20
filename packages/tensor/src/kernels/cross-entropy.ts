import { sameShape, showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFused, applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"
import { launchRows, type RowKernel } from "./rows/launch.ts"

export interface CrossEntropyOptions {
  /** `mean` over the rows that have a target, their `sum`, or `none`: one number per row. Default `mean`. */
  readonly reduction?: "mean" | "sum" | "none"
}

const forward: RowKernel = {
  name: "cross entropy",
  buffers: [reads("logits", "T"), reads("targets", "i32"), writes("loss"), writes("lse")],
  body: ({ exponentials, once, element }) => `
  ${exponentials((at) => `logits[${at}]`)}
  let norm = log(total);
  let target_ = targets[row];
  let valid = target_ >= 0 && u32(target_) < p.width;
  let column = select(0u, u32(target_), valid);
  ${once(`loss[row] = select(0.0, norm - (${element("logits", "column")} - top), valid);
  lse[row] = top + norm;`)}`,
}

/** (softmax − target) · gradient of the row. */
const backward: Kernel = {
  name: "cross entropy gradient",
  params: { items: "u32", classes: "u32" },
  buffers: [reads("logits"), reads("targets", "i32"), reads("lse"), reads("grad"), writes("out")],
  body: () => `${perItem(64, "p.items")}
  let row = i / p.classes;
  let target_ = targets[row];
  let valid = target_ >= 0 && u32(target_) < p.classes;
  let hit = select(0.0, 1.0, valid && u32(target_) == i % p.classes);
  out[i] = select(0.0, (exp(logits[i] - lse[row]) - hit) * grad[row], valid);
}`,
}

const crossEntropyOp: FusedOp<undefined> = {
  name: "crossEntropy",
  infer: ([logits, targets]) => {
    const [rows, classes] = logits!.shape
    if (logits!.dtype !== "f32" || targets!.dtype !== "i32" || classes === 0)
      throw new ShapeError(
        "crossEntropy",
        `needs f32 logits of some classes and i32 targets, got ${logits!.dtype} ${showShape(logits!.shape)} and ${targets!.dtype}`,
      )
    return [
      { shape: [rows!], dtype: "f32" },
      { shape: [rows!], dtype: "f32" },
    ]
  },
  lower: (emit, inputs, outputs) => {
    const [rows, classes] = inputs[0]!.spec.shape as [number, number]
    launchRows(emit, forward, [rows, classes], [...inputs, ...outputs])
  },
  backward: ({ inputs: [logits, targets], outputs: [, lse], grads: [g] }) => [
    applyFusedOne(gradientOp, [logits!, targets!, lse!, g!], undefined),
  ],
}

const gradientOp: FusedOp<undefined> = {
  name: "crossEntropy gradient",
  infer: ([logits]) => [logits!],
  lower: (emit, inputs, [out]) => {
    const [rows, classes] = out!.spec.shape as [number, number]
    emit.launch(backward, [...inputs, out!], [rows * classes, classes], gridFor(rows * classes, 64))
  },
}

/**
 * −log softmax(logits)[target] of each row. logits: [..., C]; targets: i32 [...]. A target that is no class (−100, say)
 * counts for nothing.
 */
export const crossEntropy = (
  logits: Tensor,
  targets: Tensor,
  { reduction = "mean" }: CrossEntropyOptions = {},
): Tensor => {
  const classes = logits.shape.at(-1)
  if (classes === undefined || !sameShape(logits.shape.slice(0, -1), targets.shape))
    throw new ShapeError(
      "crossEntropy",
      `needs logits [..., C] and targets [...], got ${showShape(logits.shape)} and ${showShape(targets.shape)}`,
    )
  const rows = [logits.reshape([targets.size, classes]), targets.reshape([targets.size])]
  const loss = applyFused(crossEntropyOp, rows, undefined)[0]!
  if (reduction === "none") return loss.reshape(targets.shape)
  if (reduction === "sum") return loss.sum()
  if (reduction !== "mean")
    throw new ShapeError("crossEntropy", `the reduction is mean, sum or none, not ${String(reduction satisfies never)}`)
  const counted = targets.greaterEqual(0).and(targets.less(classes))
  return loss.sum().div(counted.sum())
}
