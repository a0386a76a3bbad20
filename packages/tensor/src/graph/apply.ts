import { computeType, isPacked } from "../dtype.ts"
import { ShapeError, TensorError } from "../errors.ts"
import type { FusedOp } from "./fused-op.ts"
import { Node, specOf } from "./node.ts"
import type { Tensor } from "./tensor.ts"

/** Puts a fused operation on the graph and returns its outputs. What its kernels do not read as stored is made f32. */
export const applyFused = <Attributes>(
  op: FusedOp<Attributes>,
  operands: readonly Tensor[],
  attributes: NoInfer<Attributes>,
): readonly Tensor[] => {
  const inputs = operands.map((operand, i) =>
    isPacked(operand.dtype) && !op.readsPacked?.includes(i) ? operand.cast("f32") : operand,
  )
  for (const input of inputs)
    if (input.gpu !== inputs[0]!.gpu) throw new TensorError(op.name, "operands live on different devices")
  for (const place of op.floats ?? []) {
    const { dtype } = inputs[place]!
    if (computeType(dtype) !== "f32")
      throw new ShapeError(op.name, `operand ${place} is ${dtype} and must be floating-point: cast("f32") makes it so`)
  }
  const specs = op.infer(
    inputs.map((input) => specOf(input.value)),
    attributes,
  )
  const node = new Node(
    { kind: "fused", op: op as unknown as FusedOp<never>, attributes },
    inputs.map((input) => input.value),
    specs,
  )
  return specs.map((_, output) => inputs[0]!.beside({ node, output }))
}

/** {@link applyFused} for an operation with one output. */
export const applyFusedOne = <Attributes>(
  op: FusedOp<Attributes>,
  inputs: readonly Tensor[],
  attributes: NoInfer<Attributes>,
): Tensor => applyFused(op, inputs, attributes)[0]!
