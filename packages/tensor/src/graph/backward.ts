import { computeType, isPacked, sameShape, type Shape } from "../dtype.ts"
import { TensorError } from "../errors.ts"
import { productOfOthers } from "../kernels/scan.ts"
import { spread } from "../ops/shape.ts"
import { mapTable } from "../ops/table.ts"
import type { FusedOp } from "./fused-op.ts"
import type { Node, Op, Padding, Value, View } from "./node.ts"
import type { Tensor } from "./tensor.ts"

/** Whether no gradient goes through `node`, whatever its inputs are. */
export const endsGradient = ({ op, specs }: Node): boolean =>
  specs.every(({ dtype }) => computeType(dtype) !== "f32") || (op.kind === "map" && !mapTable[op.fn].backward)

/**
 * Gradients of the inputs of `node` from those of its outputs (`undefined` for an output that was not used). `tensor`
 * makes a tensor of a value; `needs` tells which inputs want a gradient.
 */
export const backward = (
  tensor: (value: Value) => Tensor,
  node: Node,
  grads: readonly (Tensor | undefined)[],
  needs: readonly boolean[],
): readonly (Tensor | undefined)[] => {
  const { op } = node
  const inputs = node.inputs.map(tensor)
  const outputs = node.specs.map((_, output) => tensor({ node, output }))
  const [g] = grads
  const [x] = inputs
  switch (op.kind) {
    case "leaf":
    case "input":
    case "constant":
    case "accumulate":
      return []
    case "map":
      return (mapTable[op.fn].backward?.(g!, inputs, outputs[0]!) ?? []).map(
        (gradient, i) => gradient && unbroadcast(gradient, inputs[i]!.shape),
      )
    case "cast":
      return [g]
    case "reshape":
      if (op.gradient) return [undefined, ...op.gradient({ grad: g!, output: outputs[0]!, inputs: inputs.slice(1) })]
      return [g!.reshape(x!.shape)]
    case "view":
      return [viewBackward(g!, x!.shape, op)]
    case "pad":
      return [padBackward(g!, x!.shape, op)]
    case "reduce":
      return [reduceBackward(g!, x!, outputs[0]!, op)]
    case "fused": {
      const fused = op.op as unknown as FusedOp<unknown>
      if (!fused.backward) {
        // A gradient that arrives at whole numbers has nowhere to go.
        if (node.specs.every(({ dtype }) => computeType(dtype) !== "f32")) return []
        throw new TensorError(
          fused.name,
          "has no gradient: build it from differentiable operations, or stop the gradient",
        )
      }
      return fused.backward({ inputs, outputs, grads, attributes: op.attributes, needs })
    }
    default:
      return op satisfies never
  }
}

/** Sums `gradient` over the dimensions in which `shape` was broadcast. */
const unbroadcast = (gradient: Tensor, shape: Shape): Tensor => {
  if (sameShape(gradient.shape, shape)) return gradient
  const lead = gradient.shape.length - shape.length
  const spread = gradient.shape.flatMap((dim, axis) => (axis < lead || shape[axis - lead] !== dim ? [axis] : []))
  return (spread.length > 0 ? gradient.sum(spread) : gradient).reshape(shape)
}

/** Repetitions add up; what remains goes back to where it was read. */
const viewBackward = (gradient: Tensor, shape: Shape, { start, axes }: View): Tensor => {
  const repeated = axes.flatMap((axis, i) => (axis ? [] : [i]))
  const sum = repeated.length > 0 ? gradient.sum(repeated) : gradient
  const along = axes.filter((axis) => axis !== undefined)
  const order = along.map((_, i) => i).sort((a, b) => along[a]!.axis - along[b]!.axis)
  const steps = shape.map((_, axis) => along.find((other) => other.axis === axis)?.step ?? 1)
  const counts = shape.map(() => 1)
  along.forEach(({ axis }, i) => {
    counts[axis] = sum.shape[i]!
  })
  const ordered = sum.transpose(order).reshape(counts)
  const backwards = steps.flatMap((step, axis) => (step < 0 ? [axis] : []))
  const forwards = backwards.length > 0 ? ordered.flip(backwards) : ordered
  const low = start.map((first, axis) => (steps[axis]! < 0 ? first + (counts[axis]! - 1) * steps[axis]! : first))
  if (sameShape(counts, shape)) return forwards
  return spread(
    forwards,
    shape,
    low.map((first) => Math.max(0, first)),
    steps.map(Math.abs),
  )
}

/** Reads back what was spread out. */
const padBackward = (gradient: Tensor, shape: Shape, { low, step }: Padding): Tensor =>
  gradient.derive(
    {
      kind: "view",
      start: low.map((first, axis) => (shape[axis] === 0 ? 0 : first)),
      axes: step.map((by, axis) => ({ axis, step: by })),
    },
    [gradient],
    shape,
  )

const reduceBackward = (
  gradient: Tensor,
  input: Tensor,
  output: Tensor,
  { fn, outer, length, inner }: Extract<Op, { kind: "reduce" }>,
): Tensor => {
  const spread = (t: Tensor) => t.reshape([outer, 1, inner]).broadcastTo([outer, length, inner])
  if (fn === "sum") return spread(gradient).reshape(input.shape)
  const x = (isPacked(input.dtype) ? input.cast("f32") : input).reshape([outer, length, inner])
  if (fn === "prod") return spread(gradient).mul(productOfOthers(x, 1)).reshape(input.shape)
  // Every element that attains the extremum takes part; ties share the gradient equally, as in JAX and PyTorch.
  const hits = x.equal(spread(output))
  return hits.mul(spread(gradient.div(hits.sum(1).reshape(gradient.shape)))).reshape(input.shape)
}
