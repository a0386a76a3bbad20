import { specOf, type Node, type Value } from "../graph/node.ts"
import { groupPointwise } from "./fuse.ts"
import { baseOf, type Conflicts } from "./schedule.ts"

/**
 * {@link groupPointwise} in groups that read at most `maxLeaves` buffers each, as many as a launch may bind: where there
 * are more, the part of the expression that reads most gets memory of its own.
 */
export const fusionGroups = (
  nodes: readonly Node[],
  outputs: ReadonlySet<Node>,
  conflicts: Conflicts,
  maxLeaves: number,
): ReadonlyMap<Node, Node> => {
  const materialized = new Set(outputs)
  for (;;) {
    const groups = groupPointwise(nodes, materialized, conflicts)
    const cuts = cutsOf(nodes, groups, maxLeaves)
    if (cuts.size === 0) return groups
    for (const node of cuts) materialized.add(node)
  }
}

const cutsOf = (nodes: readonly Node[], groups: ReadonlyMap<Node, Node>, maxLeaves: number): ReadonlySet<Node> => {
  const cuts = new Set<Node>()
  /** What the part of a group up to a node reads. */
  const leaves = new Map<Node, ReadonlySet<string>>()
  for (const node of nodes) {
    const root = groups.get(node)
    if (!root) continue
    const inside = (value: Value) => groups.get(baseOf(value).node) === root && !cuts.has(baseOf(value).node)
    const read = (value: Value): ReadonlySet<string> => {
      const base = baseOf(value)
      if (base.node.op.kind === "constant") return new Set()
      return inside(value) ? leaves.get(base.node)! : new Set([leafKey(value, node)])
    }
    const all = () => new Set(node.inputs.flatMap((input) => [...read(input)]))
    while (all().size > maxLeaves) {
      const [largest] = node.inputs.filter(inside).sort((a, b) => read(b).size - read(a).size)
      cuts.add(baseOf(largest!).node)
    }
    leaves.set(node, all())
  }
  return cuts
}

/** Equal for reads that share a binding; one buffer read in two ways counts twice, as every view of it does. */
const leafKey = (value: Value, user: Node): string => {
  const { node, output } = baseOf(value)
  if (user.op.kind === "view" || user.op.kind === "pad") return `${user.id}`
  return [node.id, output, specOf(value).shape.join("x"), user.specs[0]!.shape.join("x"), user.op.kind].join()
}
