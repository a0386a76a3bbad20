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
  /** A class that counts for nothing, as targets that are no class always do. */
  readonly ignoreIndex?: number
  /** Part of each target's weight, in [0, 1], that goes to all classes alike. Default 0. */
  readonly labelSmoothing?: number
}

/** log Σ exp − (1 − smoothing) · logit of the target − smoothing · mean logit. Without smoothing the mean is not taken. */
const forward = (smooth: boolean): RowKernel => ({
  name: smooth ? "cross entropy, smoothed" : "cross entropy",
  params: smooth ? { smoothing: "f32" } : {},
  buffers: [reads("logits", "T"), reads("targets", "i32"), writes("loss"), writes("lse")],
  body: ({ exponentials, fold, once, element }) => `
  ${exponentials((at) => `logits[${at}]`)}
  ${smooth ? fold([{ name: "below", next: (sum, of) => `${sum} + ${of("z")}` }], "let z = logits[at] - top;") : ""}
  let norm = log(total);
  let target_ = targets[row];
  let valid = target_ >= 0 && u32(target_) < p.width;
  let column = select(0u, u32(target_), valid);
  let score = ${element("logits", "column")} - top;
  let hit = ${smooth ? "mix(score, below / f32(p.width), p.smoothing)" : "score"};
  ${once(`loss[row] = select(0.0, norm - hit, valid);
  lse[row] = top + norm;`)}`,
})

/** (softmax − (1 − smoothing) · target − smoothing / classes) · gradient of the row. */
const backward: Kernel = {
  name: "cross entropy gradient",
  params: { items: "u32", classes: "u32", smoothing: "f32" },
  buffers: [reads("logits"), reads("targets", "i32"), reads("lse"), reads("grad"), writes("out")],
  body: () => `${perItem(64, "p.items")}
  let row = i / p.classes;
  let target_ = targets[row];
  let valid = target_ >= 0 && u32(target_) < p.classes;
  let hit = select(0.0, 1.0 - p.smoothing, valid && u32(target_) == i % p.classes) + p.smoothing / f32(p.classes);
  out[i] = select(0.0, (exp(logits[i] - lse[row]) - hit) * grad[row], valid);
}`,
}

interface Attributes {
  readonly smoothing: number
}

const crossEntropyOp: FusedOp<Attributes> = {
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
  lower: (emit, inputs, outputs, { smoothing }) => {
    const [rows, classes] = inputs[0]!.spec.shape as [number, number]
    const smooth = smoothing > 0
    launchRows(emit, forward(smooth), [rows, classes], [...inputs, ...outputs], smooth ? [smoothing] : [])
  },
  backward: ({ inputs: [logits, targets], outputs: [, lse], grads: [g], attributes }) => [
    applyFusedOne(gradientOp, [logits!, targets!, lse!, g!], attributes),
  ],
}

const gradientOp: FusedOp<Attributes> = {
  name: "crossEntropy gradient",
  infer: ([logits]) => [logits!],
  lower: (emit, inputs, [out], { smoothing }) => {
    const [rows, classes] = out!.spec.shape as [number, number]
    const items = rows * classes
    emit.launch(backward, [...inputs, out!], [items, classes, smoothing], gridFor(items, 64))
  },
}

/**
 * −log softmax(logits)[target] of each row. logits: [..., C]; targets: i32 [...]. A target that is no class (−100, say)
 * counts for nothing. With label smoothing ε, PyTorch's: (1 − ε) of that and ε of its mean over all classes (C. Szegedy et
 * al., 2016).
 */
export const crossEntropy = (
  logits: Tensor,
  targets: Tensor,
  { reduction = "mean", ignoreIndex, labelSmoothing: smoothing = 0 }: CrossEntropyOptions = {},
): Tensor => {
  const classes = logits.shape.at(-1)
  if (classes === undefined || !sameShape(logits.shape.slice(0, -1), targets.shape))
    throw new ShapeError(
      "crossEntropy",
      `needs logits [..., C] and targets [...], got ${showShape(logits.shape)} and ${showShape(targets.shape)}`,
    )
  if (!(smoothing >= 0 && smoothing <= 1))
    throw new ShapeError("crossEntropy", `labelSmoothing is a number from 0 to 1, not ${smoothing}`)
  if (ignoreIndex !== undefined && !Number.isInteger(ignoreIndex))
    throw new ShapeError("crossEntropy", `ignoreIndex is a whole number, not ${ignoreIndex}`)
  const ignores = ignoreIndex !== undefined && ignoreIndex >= 0 && ignoreIndex < classes
  const used = ignores ? targets.equal(ignoreIndex).where(-1, targets) : targets
  const rows = [logits.reshape([used.size, classes]), used.reshape([used.size])]
  const loss = applyFused(crossEntropyOp, rows, { smoothing })[0]!
  if (reduction === "none") return loss.reshape(targets.shape)
  if (reduction === "sum") return loss.sum()
  if (reduction !== "mean")
    throw new ShapeError("crossEntropy", `the reduction is mean, sum or none, not ${String(reduction satisfies never)}`)
  const counted = used.greaterEqual(0).and(used.less(classes))
  return loss.sum().div(counted.sum())
}
