import { computeType, isQuantized, showShape } from "../dtype.ts"
import { ShapeError, TensorError } from "../errors.ts"
import { backward } from "./backward.ts"
import { applyFusedOne } from "./apply.ts"
import type { FusedOp } from "./fused-op.ts"
import { nextNodeId, specOf, type Node } from "./node.ts"
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
 * `ShapeError` if the value is no floating-point scalar or a parameter has no gradient, being quantised or made of whole
 * numbers, and `TensorError` if it depends on none of the parameters but on what a compiled function returned.
 */
export const grad = (value: Tensor, params: readonly Tensor[]): readonly Tensor[] => {
  const { gpu } = value
  if (value.size !== 1 || computeType(value.dtype) !== "f32")
    throw new ShapeError("grad", `needs a floating-point scalar, got ${value.dtype} ${showShape(value.shape)}`)
  const whole = params.find(({ dtype }) => computeType(dtype) !== "f32")
  if (whole)
    throw new ShapeError("grad", `${whole.dtype} ${showShape(whole.shape)} has no gradient: it has whole numbers`)
  const gradients = pullBack(value, gpu.constant(1).broadcastTo(value.shape), params)
  const compiled = gradients.some((gradient) => gradient) ? undefined : compiledPast(value.value.node)
  if (compiled !== undefined)
    throw new TensorError(
      "grad",
      `the value comes from the compiled function "${compiled}", which keeps no past: take the gradient inside of it`,
    )
  return gradients.map((gradient, i) => gradient ?? gpu.zeros(params[i]!.shape))
}

/** Gradients of Σ `seed` · `value` with respect to `params`; `undefined` for those that it does not depend on. */
export const pullBack = (value: Tensor, seed: Tensor, params: readonly Tensor[]): readonly (Tensor | undefined)[] => {
  const frozen = params.find(({ dtype }) => isQuantized(dtype))
  if (frozen)
    throw new ShapeError(
      "grad",
      `${frozen.dtype} ${showShape(frozen.shape)} has no gradient: train an adapter beside it, or cast it to f32 first`,
    )
  const wanted = new Set(params.map((param) => param.value.node))
  const order = dependents(value.value.node, wanted)
  const grads = new Map<Node, (Tensor | undefined)[]>()
  const seeds: Tensor[] = []
  seeds[value.value.output] = seed
  grads.set(value.value.node, seeds)
  const sum = new GradientSum()

  for (const node of [...order].reverse()) {
    const outputs = grads.get(node)
    const needs = node.inputs.map((input) => order.has(input.node) && computeType(specOf(input).dtype) === "f32")
    if (!outputs || !needs.includes(true)) continue
    const start = nextNodeId()
    const made = backward((source) => value.beside(source), node, outputs, needs)
    sum.made(made, start)
    made.forEach((gradient, i) => {
      if (!gradient || !needs[i]) return
      const { node: source, output } = node.inputs[i]!
      const sums = grads.get(source) ?? []
      sums[output] = sums[output] ? sum.of(sums[output], gradient) : gradient
      grads.set(source, sums)
    })
  }
  return params.map(({ value: { node, output } }) => grads.get(node)?.[output])
}

/**
 * Adds up gradients. A hand-written kernel that adds another tensor to its result takes the other gradient along, if
 * nothing reads its result alone.
 */
class GradientSum {
  /** Nodes whose result is a gradient and nothing else yet. */
  readonly #own = new Set<Node>()

  of(a: Tensor, b: Tensor): Tensor {
    return this.#join(a, b) ?? this.#join(b, a) ?? a.add(b)
  }

  /** Takes note of the gradients that one step has made, with nodes from `start` on. */
  made(gradients: readonly (Tensor | undefined)[], start: number): void {
    const readers = new Map<Node, number>()
    const stack = gradients.flatMap((gradient) => (gradient ? [gradient.value.node] : []))
    while (stack.length > 0) {
      const node = stack.pop()!
      if (node.id < start) continue
      const known = readers.get(node) ?? 0
      readers.set(node, known + 1)
      if (known === 0) for (const input of node.inputs) stack.push(input.node)
    }
    for (const [node, count] of readers) if (count === 1) this.#own.add(node)
  }

  #join(sum: Tensor, own: Tensor): Tensor | undefined {
    const { op, inputs, specs } = own.value.node
    if (op.kind !== "fused" || specs.length > 1 || sum.dtype !== "f32" || !this.#own.has(own.value.node))
      return undefined
    const fused = op.op as unknown as FusedOp<unknown>
    const attributes = fused.adding?.(op.attributes)
    if (attributes === undefined) return undefined
    const joined = applyFusedOne(fused, [...inputs.map((input) => own.beside(input)), sum], attributes)
    this.#own.add(joined.value.node)
    return joined
  }
}

/** The name of a compiled function that `root` depends on, if there is one. */
const compiledPast = (root: Node): string | undefined => {
  for (const { op } of past(root)) if (op.kind === "leaf" && op.from !== undefined) return op.from
  return undefined
}

/** All nodes that `root` depends on, itself included. */
const past = (root: Node): ReadonlySet<Node> => {
  const seen = new Set<Node>()
  const stack = [root]
  while (stack.length > 0) {
    const node = stack.pop()!
    if (seen.has(node)) continue
    seen.add(node)
    for (const input of node.inputs) stack.push(input.node)
  }
  return seen
}

/** Nodes on a path from `wanted` to `root`, in order of creation: inputs before users. */
const dependents = (root: Node, wanted: ReadonlySet<Node>): ReadonlySet<Node> => {
  const order = new Set<Node>()
  for (const node of [...past(root)].sort((a, b) => a.id - b.id))
    if (wanted.has(node) || node.inputs.some((input) => order.has(input.node))) order.add(node)
  return order
}
