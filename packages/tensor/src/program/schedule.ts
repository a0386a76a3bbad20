import type { Node, Value } from "../graph/node.ts"
import type { FusedOp } from "../graph/fused-op.ts"

/** Follows reshapes down to the value whose memory they share; one that has been read has memory itself. */
export const baseOf = (value: Value): Value => {
  let base = value
  while (base.node.op.kind === "reshape" && !base.node.storages) base = base.node.inputs[0]!
  return base
}

/** Every node that `roots` need, in order of creation: the order in which the program was written. */
export const reachable = (roots: readonly Node[]): readonly Node[] => {
  const seen = new Set<Node>()
  const stack = [...roots]
  while (stack.length > 0) {
    const node = stack.pop()!
    if (seen.has(node)) continue
    seen.add(node)
    if (!node.storages) for (const input of node.inputs) stack.push(input.node)
  }
  return [...seen].sort((a, b) => a.id - b.id)
}

/** Bytes that a node reads or overwrites: those of a buffer, or all of what another node makes. */
interface Touch {
  readonly node: Node
  readonly place: object
  readonly start: number
  readonly end: number
  readonly writes: boolean
}

/** The input that output `output` of a node is written over, if any. */
const overwritten = ({ op, inputs }: Node, output: number): Value | undefined => {
  if (op.kind === "accumulate") return inputs[0]
  if (op.kind !== "fused") return undefined
  const { inPlace } = op.op as unknown as FusedOp<unknown>
  const over = inPlace?.(op.attributes)[output]
  return over === undefined ? undefined : inputs[over]
}

/** Where a value lies: the buffer that holds it, or the node that makes it. */
export const placeOf = (value: Value): Pick<Touch, "place" | "start" | "end"> => {
  const { node, output } = baseOf(value)
  const storage = node.storages?.[output]
  if (storage) return { place: storage.buffer, start: storage.offset, end: storage.offset + storage.bytes }
  const target = overwritten(node, output)
  return target ? placeOf(target) : { place: node, start: output, end: output + 1 }
}

/** Which nodes must not change places, since one of them overwrites what the other reads or writes. */
export class Conflicts {
  /** Touches of memory that some node overwrites, by place. */
  readonly #touches = new Map<object, Touch[]>()
  readonly #ofNode = new Map<Node, Touch[]>()

  constructor(nodes: readonly Node[]) {
    const pending = nodes.filter((node) => !node.storages)
    const writes = pending.flatMap((node) =>
      node.specs.flatMap((_, output) => {
        const target = overwritten(node, output)
        return target ? [{ node, writes: true, ...placeOf(target) }] : []
      }),
    )
    if (writes.length === 0) return
    const places = new Set(writes.map(({ place }) => place))
    const reads = pending.flatMap((node) => node.inputs.map((input) => ({ node, writes: false, ...placeOf(input) })))
    for (const each of [...writes, ...reads]) {
      if (!places.has(each.place)) continue
      append(this.#touches, each.place, each)
      append(this.#ofNode, each.node, each)
    }
  }

  /** Nodes that conflict with `node`. */
  of(node: Node): readonly Node[] {
    return (this.#ofNode.get(node) ?? []).flatMap(({ place, start, end, writes }) =>
      this.#touches
        .get(place)!
        .filter((other) => other.node !== node && (writes || other.writes) && other.start < end && start < other.end)
        .map((other) => other.node),
    )
  }

  /** Whether what `node` reads is overwritten after it and before `later`. */
  between(node: Node, later: Node): boolean {
    return this.of(node).some(({ id }) => node.id < id && id < later.id)
  }
}

const append = <Key, A>(lists: Map<Key, A[]>, key: Key, item: A): void => {
  const list = lists.get(key)
  if (list) list.push(item)
  else lists.set(key, [item])
}

/**
 * `nodes` (in order of creation) as they run: as written, but for accumulations, which run as soon as what they add
 * exists and nothing before them needs their target, so that what made it need not be kept. `rootOf` tells where a node
 * that is computed inside a kernel runs.
 */
export const schedule = (
  nodes: readonly Node[],
  conflicts: Conflicts,
  rootOf: (node: Node) => Node,
): readonly Node[] => {
  const position = new Map(nodes.map((node, i) => [node, i]))
  const time = new Map<Node, number>()
  const timeOf = (node: Node) => time.get(node) ?? position.get(node) ?? -1
  for (const node of nodes) {
    if (node.op.kind !== "accumulate") continue
    const earlier = conflicts.of(node).filter(({ id }) => id < node.id)
    const after = [...node.inputs.map((input) => input.node), ...earlier.map(rootOf)]
    time.set(node, Math.max(-1, ...after.map(timeOf)))
  }
  // An accumulation comes after what it waits for, and after accumulations that were written before it.
  const rank = (node: Node) => (time.has(node) ? 1 : 0)
  return [...nodes].sort((a, b) => timeOf(a) - timeOf(b) || rank(a) - rank(b) || a.id - b.id)
}
