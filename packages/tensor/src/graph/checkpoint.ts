import { computeType } from "../dtype.ts"
import { TensorError } from "../errors.ts"
import { pullBack } from "./autograd.ts"
import type { FusedOp } from "./fused-op.ts"
import { nextNodeId, Node, specOf, type Value } from "./node.ts"
import type { Tensor } from "./tensor.ts"

/** The steps that a function added to the graph. */
interface Region {
  /** In order of creation. */
  readonly nodes: readonly Node[]
  /** Values from outside that they read: arguments, and what the function closes over. */
  readonly reads: readonly Value[]
}

const keyOf = ({ node, output }: Value): string => `${node.id}.${output}`

/** What `value` is computed from, back to nodes that are older than `start`. */
const regionOf = (value: Value, start: number): Region => {
  const nodes = new Set<Node>()
  const reads = new Map<string, Value>()
  const stack = [value]
  while (stack.length > 0) {
    const next = stack.pop()!
    if (next.node.id < start) reads.set(keyOf(next), next)
    else if (!nodes.has(next.node)) {
      nodes.add(next.node)
      stack.push(...next.node.inputs)
    }
  }
  for (const { op } of nodes) {
    const inPlace = op.kind === "fused" && (op.op as unknown as FusedOp<unknown>).inPlace?.(op.attributes)
    if (op.kind === "accumulate" || (inPlace && Object.keys(inPlace).length > 0))
      throw new TensorError("checkpoint", "the function updates memory in place, which must not happen twice")
  }
  return { nodes: [...nodes].sort((a, b) => a.id - b.id), reads: [...reads.values()] }
}

/** `value` computed anew, from `inputs` instead of what the region reads. */
const replay = ({ nodes, reads }: Region, value: Value, inputs: readonly Value[]): Value => {
  const outside = new Map(reads.map((read, i) => [keyOf(read), inputs[i]!]))
  const copies = new Map<Node, Node>()
  const moved = (old: Value): Value => {
    const copy = copies.get(old.node)
    return copy ? { node: copy, output: old.output } : outside.get(keyOf(old))!
  }
  for (const node of nodes)
    copies.set(node, node.inputs.length > 0 ? new Node(node.op, node.inputs.map(moved), node.specs) : node)
  return moved(value)
}

/**
 * `fn` as before, but its intermediate values are not kept for the gradient: they are computed a second time when it is
 * (T. Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016). Only what `fn` reads, its arguments and what it
 * closes over, and its result stay in memory. `fn` must not update anything in place.
 */
export const checkpoint =
  <Inputs extends readonly Tensor[]>(fn: (...inputs: Inputs) => Tensor) =>
  (...inputs: Inputs): Tensor => {
    const start = nextNodeId()
    const output = fn(...inputs)
    if (output.value.node.id < start) return output
    const region = regionOf(output.value, start)
    return output.derive(
      {
        kind: "reshape",
        gradient: ({ grad, inputs: outside }) => {
          // Values of their own, since how those outside depend on each other is the business of the graph there.
          const ends = outside.map((x) => x.derive({ kind: "reshape" }, [x], x.shape))
          const again = output.beside(
            replay(
              region,
              output.value,
              ends.map((end) => end.value),
            ),
          )
          const gradients = pullBack(again, grad, ends)
          return gradients.map((gradient, i) =>
            computeType(specOf(region.reads[i]!).dtype) === "f32" ? gradient : undefined,
          )
        },
      },
      [output, ...region.reads.map((read) => output.beside(read))],
      output.shape,
    )
  }
