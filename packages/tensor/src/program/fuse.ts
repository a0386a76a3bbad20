import { computeType, sameShape, sizeOf, type ComputeType } from "../dtype.ts"
import { specOf, type Node, type Value } from "../graph/node.ts"
import { mapTable } from "../ops/table.ts"
import { broadcastAccess, padAccess, vectorizable, viewAccess, wholeAccess, type Access } from "./access.ts"
import { eachItem, itemParams, writes, type Kernel } from "./kernel.ts"
import { convert, load, readerFor, wgslType, type Field } from "./loads.ts"
import { reduceBody, reduceParams } from "./reduce.ts"
import { baseOf, type Conflicts } from "./schedule.ts"

const isPointwise = ({ op }: Node): boolean =>
  isElementwise(op) || op.kind === "view" || op.kind === "pad" || op.kind === "constant"

/** Whether each element of the output comes from the elements at the same index. */
const isElementwise = ({ kind }: Node["op"]): boolean => kind === "map" || kind === "cast"

/** Whether the kernel of `node` has the constants that it reads in its text. What is padded is read from memory. */
const spellsConstants = (node: Node): boolean =>
  node.op.kind === "reduce" || (isPointwise(node) && node.op.kind !== "pad")

/** Nodes of one kernel at most: drivers take their time over long programs. */
const largestGroup = 128

/**
 * Decides which element-wise nodes get memory of their own. A node that only one kernel reads, element for element,
 * is computed inside that kernel, unless what it reads has been overwritten by then; everything else is a root. Returns
 * the group (its root) of each node computed inside a kernel.
 */
export const groupPointwise = (
  nodes: readonly Node[],
  outputs: ReadonlySet<Node>,
  conflicts: Conflicts,
): ReadonlyMap<Node, Node> => {
  const users = new Map<Node, { readonly node: Node; readonly value: Value }[]>()
  for (const node of nodes) {
    if (node.op.kind === "reshape" || node.storages) continue
    for (const value of node.inputs) {
      const base = baseOf(value)
      const list = users.get(base.node)
      if (list) list.push({ node, value })
      else users.set(base.node, [{ node, value }])
    }
  }
  const groups = new Map<Node, Node>()
  const members = new Map<Node, number>()
  for (const node of nodes.toReversed()) {
    if (node.op.kind === "reduce") groups.set(node, node)
    if (!isPointwise(node) || node.storages) continue
    const size = sizeOf(node.specs[0]!.shape)
    const roots = new Set<Node | undefined>()
    for (const { node: user, value } of users.get(node) ?? []) {
      const root = isElementwise(user.op) || user.op.kind === "reduce" ? groups.get(user) : undefined
      const whole = user.op.kind === "reduce" || sameElements(value, user)
      roots.add(whole && root && iterationSize(root) === size ? root : undefined)
    }
    // A constant is written into the kernels that read it; only others need it in memory.
    if (
      node.op.kind === "constant" &&
      !outputs.has(node) &&
      (users.get(node) ?? []).every(({ node: user }) => spellsConstants(user))
    )
      continue
    const [only] = roots
    const count = members.get(only!) ?? 1
    const inlined =
      roots.size === 1 && only && !outputs.has(node) && !conflicts.between(node, only) && count < largestGroup
    groups.set(node, inlined ? only : node)
    if (inlined) members.set(only, count + 1)
  }
  return groups
}

const sameElements = (value: Value, user: Node): boolean =>
  sameShape(specOf(value).shape, user.specs[0]!.shape) || sizeOf(specOf(value).shape) === sizeOf(user.specs[0]!.shape)

const iterationSize = (root: Node): number =>
  root.op.kind === "reduce" ? root.op.outer * root.op.length * root.op.inner : sizeOf(root.specs[0]!.shape)

interface Leaf {
  readonly value: Value
  readonly access: Access
}

/** A group as one kernel: what it reads, and its parameters. */
export interface FusedGroup {
  readonly kernel: Kernel
  readonly leaves: readonly Value[]
  /** Parameters of the expression: they follow those of the launch. */
  readonly params: readonly number[]
  /** Invocations, before any division into blocks. */
  readonly items: number
}

/** The kernel that computes the root of a group. `group` tells which nodes are computed inside it. */
export const fuse = (root: Node, groups: ReadonlyMap<Node, Node>): FusedGroup => {
  const { leaves, constants, lines, result, declarations, operations } = expressionOf(root, groups)
  const reduction = root.op.kind === "reduce" ? root.op : undefined
  const size = sizeOf(root.specs[0]!.shape)
  const rowWise = reduction?.inner === 1 && reduction.length % 4 === 0
  const vector = (!reduction || rowWise) && leaves.every(({ access }) => vectorizable(access))
  const type = computeType(root.specs[0]!.dtype)

  const fields: Record<string, ComputeType> = {}
  const params: number[] = []
  const field: Field = (name, fieldType, value) => {
    if (!(name in fields)) params.push(value)
    fields[name] = fieldType
    return `p.${name}`
  }
  constants.forEach((constant, i) => field(`c${i}`, constant.type, constant.value))
  const loads = leaves.map(({ value, access }, i) => load(`in${i}`, specOf(value).dtype, access, vector, field))
  const readers = leaves.map(({ value, access }, i) => readerFor(`in${i}`, specOf(value).dtype, access, vector))
  const substitute = (text: string) =>
    text
      .replace(/@(\d+)/g, (_, leaf: string) => loads[Number(leaf)]!)
      .replace(/\$(\w+)/g, (_, scalar: string) => wgslType(scalar as ComputeType, vector))
  const code = lines.map(substitute)
  const value = substitute(result)
  const prelude = `alias T = ${wgslType("f32", vector)}; const zero = T(0.0); const one = T(1.0);${[...readers.map(({ declaration }) => declaration), ...declarations].join("")}`
  const body = reduction
    ? `${prelude}\n${reduceBody(reduction.fn, code, value, vector)}`
    : `${prelude}\n${eachItem(`${code.join("\n    ")}\n    out[i] = ${value};`)}`
  const buffers = [...readers.map(({ buffer }) => buffer), writes("out", wgslType(type, vector && !reduction))]
  const kernel: Kernel = {
    name: `${buffers.map((buffer) => buffer.type).join()} ${body}`,
    label: labelOf(operations, reduction?.fn, leaves.length > 0),
    params: reduction ? { ...reduceParams(type), ...fields } : { ...itemParams, ...fields },
    buffers,
    body: () => body,
  }
  const items = reduction ? reduction.outer * reduction.inner : Math.ceil(size / (vector ? 4 : 1))
  return { kernel, leaves: leaves.map((leaf) => leaf.value), params, items }
}

/** Operations that a label spells out. */
const longestLabel = 12

/** What a kernel does, in the names of the operations that it computes, in their order. */
const labelOf = (operations: readonly string[], reduction: string | undefined, reads: boolean): string => {
  const shown = operations.slice(0, longestLabel).join(", ")
  const rest = operations.length - longestLabel
  const done = rest > 0 ? `${shown} and ${rest} more` : shown
  if (reduction) return done ? `${reduction} of ${done}` : reduction
  return done || (reads ? "copy" : "fill")
}

/**
 * What a group computes: lines of WGSL in which `@k` stands for leaf k and `$f32` for a type that is four wide where the
 * kernel works on four elements at a time.
 */
const expressionOf = (root: Node, groups: ReadonlyMap<Node, Node>) => {
  const leaves: Leaf[] = []
  const constants: { readonly type: ComputeType; readonly value: number }[] = []
  const lines: string[] = []
  const declarations = new Set<string>()
  const names = new Map<Node, string>()
  const operations: string[] = []

  const leaf = (value: Value, access: Access): string => {
    const same = (other: Leaf) =>
      other.value.node === value.node &&
      other.value.output === value.output &&
      JSON.stringify(other.access) === JSON.stringify(access)
    const known = leaves.findIndex(same)
    if (known >= 0) return `x${known}`
    lines.push(`let x${leaves.length} = @${leaves.length};`)
    return `x${leaves.push({ value, access }) - 1}`
  }
  const inside = (node: Node): boolean => node === root || (!node.storages && groups.get(node) === root)
  const typeOf = (value: Value): ComputeType => computeType(specOf(value).dtype)

  const compute = (node: Node): string => {
    const known = names.get(node)
    if (known) return known
    const expression = expressionFor(node)
    const name = `v${names.size}`
    lines.push(`let ${name} = ${expression};`)
    names.set(node, name)
    const { op } = node
    if (op.kind === "map") operations.push(op.fn)
    if (op.kind === "cast") operations.push(node.specs[0]!.dtype)
    return name
  }
  const expressionFor = (node: Node): string => {
    const { op, inputs, specs } = node
    const [source] = inputs
    switch (op.kind) {
      case "constant": {
        const type = computeType(specs[0]!.dtype)
        return `$${type}(p.c${constants.push({ type, value: op.value }) - 1})`
      }
      case "view":
        return constantOf(source!) ?? leaf(baseOf(source!), viewAccess(specOf(source!).shape, specs[0]!.shape, op))
      case "pad":
        return leaf(baseOf(source!), padAccess(specOf(source!).shape, specs[0]!.shape, op))
      case "cast":
        return convert(operand(source!, node), typeOf(source!), specs[0]!.dtype)
      case "map": {
        const { wgsl, declares } = mapTable[op.fn]
        if (declares) declarations.add(declares)
        return wgsl(...inputs.map((input) => operand(input, node)))
      }
      default:
        throw new Error(`${op.kind} is not element-wise`)
    }
  }
  const constantOf = (value: Value): string | undefined => {
    const { node } = baseOf(value)
    return node.op.kind === "constant" ? compute(node) : undefined
  }
  const operand = (value: Value, user: Node): string => {
    const base = baseOf(value)
    const constant = constantOf(value)
    if (constant) return constant
    const whole = user.op.kind === "reduce" || sameElements(value, user)
    if (whole && inside(base.node)) return compute(base.node)
    const { shape } = specOf(value)
    return leaf(base, whole ? wholeAccess(sizeOf(shape)) : broadcastAccess(shape, user.specs[0]!.shape))
  }
  const result = root.op.kind === "reduce" ? operand(root.inputs[0]!, root) : compute(root)
  return { leaves, constants, lines, result, declarations: [...declarations], operations }
}
