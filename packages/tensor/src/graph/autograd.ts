import { sameShape, showShape, type Shape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import type { FusedOp } from "./fused-op.ts"
import { Node, specOf, type Value } from "./node.ts"
import { mapBackward, rowMajor, Tensor } from "./tensor.ts"

export interface ValueAndGrad {
  /** The scalar that was differentiated. */
  readonly value: Tensor
  /** d value / d param, in the order and shapes of the parameters. */
  readonly grads: readonly Tensor[]
}

/**
 * Runs `fn` and differentiates its scalar result with respect to `params` by reverse-mode differentiation over the
 * graph that `fn` builds. Throws `ShapeError` if the result is no scalar.
 */
export const valueAndGrad = (fn: (...params: Tensor[]) => Tensor, params: readonly Tensor[]): ValueAndGrad => {
  const value = fn(...params)
  return { value, grads: grad(value, params) }
}

/**
 * Gradients of the scalar `value` with respect to `params`. A parameter that it does not depend on gets zeros. Throws
 * `ShapeError` if the value is no scalar.
 */
export const grad = (value: Tensor, params: readonly Tensor[]): readonly Tensor[] => {
  const { gpu } = value
  if (value.size !== 1) throw new ShapeError("grad", `needs a scalar, got shape ${showShape(value.shape)}`)
  const wanted = new Set(params.map((param) => param.value.node))
  const order = dependents(value.value.node, wanted)
  const grads = new Map<Node, (Tensor | undefined)[]>()
  const seed = gpu.constant(1)
  grads.set(value.value.node, [value.shape.length === 0 ? seed : seed.broadcastTo(value.shape)])

  for (const node of order.toReversed()) {
    const outputs = grads.get(node)
    const needs = node.inputs.map((input) => order.has(input.node))
    if (!outputs || !needs.includes(true)) continue
    backward(gpu, node, outputs, needs).forEach((gradient, i) => {
      if (!gradient || !needs[i]) return
      const { node: source, output } = node.inputs[i]!
      const sums = grads.get(source) ?? []
      sums[output] = sums[output] ? sums[output].add(gradient) : gradient
      grads.set(source, sums)
    })
  }
  return params.map((param) => grads.get(param.value.node)?.[param.value.output] ?? gpu.zeros(param.shape))
}

/** Nodes on a path from `wanted` to `root`, inputs before users. A set keeps that order. */
class NodeOrder {
  readonly #nodes: Node[] = []
  readonly #members = new Set<Node>()
  add(node: Node): void {
    this.#members.add(node)
    this.#nodes.push(node)
  }
  has(node: Node): boolean {
    return this.#members.has(node)
  }
  toReversed(): Node[] {
    return this.#nodes.sort((a, b) => a.id - b.id).toReversed()
  }
}

const dependents = (root: Node, wanted: ReadonlySet<Node>): NodeOrder => {
  const order = new NodeOrder()
  const seen = new Map<Node, boolean>()
  const visit = (node: Node): boolean => {
    const known = seen.get(node)
    if (known !== undefined) return known
    seen.set(node, false)
    let depends = wanted.has(node)
    for (const input of node.inputs) depends = visit(input.node) || depends
    seen.set(node, depends)
    if (depends) order.add(node)
    return depends
  }
  visit(root)
  return order
}

/** Sums `gradient` over the dimensions in which `shape` was broadcast. */
const unbroadcast = (gradient: Tensor, shape: Shape): Tensor => {
  if (sameShape(gradient.shape, shape)) return gradient
  let sum = gradient
  while (sum.shape.length > shape.length) sum = sum.sum(0)
  shape.forEach((dim, axis) => {
    if (dim === 1 && sum.shape[axis] !== 1) {
      const kept = sum.shape.with(axis, 1)
      sum = sum.sum(axis).reshape(kept)
    }
  })
  return sum.reshape(shape)
}

const backward = (
  gpu: Tensor["gpu"],
  node: Node,
  grads: readonly (Tensor | undefined)[],
  needs: readonly boolean[],
): readonly (Tensor | undefined)[] => {
  const tensor = (value: Value) => new Tensor(gpu, value)
  const inputs = node.inputs.map(tensor)
  const [g] = grads
  switch (node.op.kind) {
    case "leaf":
    case "input":
    case "constant":
    case "accumulate":
      return []
    case "map":
      return (mapBackward(node.op.fn)?.(g!, inputs, tensor({ node, output: 0 })) ?? []).map(
        (gradient, i) => gradient && unbroadcast(gradient, inputs[i]!.shape),
      )
    case "reshape":
      return [g!.reshape(inputs[0]!.shape)]
    case "strided":
      return [stridedBackward(g!, inputs[0]!.shape, node.op.strides)]
    case "reduce": {
      const { outer, length, inner, fn } = node.op
      const spread = (t: Tensor) => t.reshape([outer, 1, inner]).broadcastTo([outer, length, inner])
      const x = inputs[0]!.reshape([outer, length, inner])
      if (fn === "sum") return [spread(g!).reshape(inputs[0]!.shape)]
      // Every element that attains the extremum takes part; ties share the gradient equally, as in JAX and PyTorch.
      const hits = x.equal(spread(tensor({ node, output: 0 })))
      return [hits.mul(spread(g!.div(hits.sum(1).reshape(g!.shape)))).reshape(inputs[0]!.shape)]
    }
    case "fused": {
      const op = node.op.op as unknown as FusedOp<unknown>
      const outputs = node.specs.map((_, output) => tensor({ node, output }))
      return op.backward?.({ inputs, outputs, grads, attributes: node.op.attributes, needs }) ?? []
    }
    default:
      return node.op satisfies never
  }
}

/** Broadcasts sum back; what remains is a permutation, undone. */
const stridedBackward = (gradient: Tensor, shape: Shape, strides: readonly number[]): Tensor => {
  let sum = gradient
  const kept = strides.map((stride, axis) => ({ stride, dim: gradient.shape[axis]! }))
  for (let axis = strides.length - 1; axis >= 0; axis--) if (strides[axis] === 0) sum = sum.sum(axis)
  const rest = kept.filter(({ stride }) => stride !== 0)
  // Axes sorted by falling stride are in memory order; dimensions of size 1 may tie and do not matter.
  const order = rest.map((_, i) => i).sort((a, b) => rest[b]!.stride - rest[a]!.stride || a - b)
  return (order.every((axis, i) => axis === i) ? sum : sum.transpose(order)).reshape(shape)
}

