import { computeType, showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { backward } from "./backward.ts"
import { specOf, type Node } from "./node.ts"
import type { Tensor } from "./tensor.ts"

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
  const gradients = pullBack(value, gpu.constant(1).broadcastTo(value.shape), params)
  return gradients.map((gradient, i) => gradient ?? gpu.zeros(params[i]!.shape))
}

/** Gradients of Σ `seed` · `value` with respect to `params`; `undefined` for those that it does not depend on. */
export const pullBack = (value: Tensor, seed: Tensor, params: readonly Tensor[]): readonly (Tensor | undefined)[] => {
  const wanted = new Set(params.map((param) => param.value.node))
  const order = dependents(value.value.node, wanted)
  const grads = new Map<Node, (Tensor | undefined)[]>()
  const seeds: Tensor[] = []
  seeds[value.value.output] = seed
  grads.set(value.value.node, seeds)

  for (const node of [...order].reverse()) {
    const outputs = grads.get(node)
    const needs = node.inputs.map((input) => order.has(input.node) && computeType(specOf(input).dtype) === "f32")
    if (!outputs || !needs.includes(true)) continue
    backward((source) => value.beside(source), node, outputs, needs).forEach((gradient, i) => {
      if (!gradient || !needs[i]) return
      const { node: source, output } = node.inputs[i]!
      const sums = grads.get(source) ?? []
      sums[output] = sums[output] ? sums[output].add(gradient) : gradient
      grads.set(source, sums)
    })
  }
  return params.map(({ value: { node, output } }) => grads.get(node)?.[output])
}

/** Nodes on a path from `wanted` to `root`, in order of creation: inputs before users. */
const dependents = (root: Node, wanted: ReadonlySet<Node>): ReadonlySet<Node> => {
  const seen = new Set<Node>()
  const stack = [root]
  while (stack.length > 0) {
    const node = stack.pop()!
    if (seen.has(node)) continue
    seen.add(node)
    for (const input of node.inputs) stack.push(input.node)
  }
  const order = new Set<Node>()
  for (const node of [...seen].sort((a, b) => a.id - b.id))
    if (wanted.has(node) || node.inputs.some((input) => order.has(input.node))) order.add(node)
  return order
}
