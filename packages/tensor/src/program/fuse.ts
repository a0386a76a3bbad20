import { sameShape, sizeOf } from "../dtype.ts"
import { Node, specOf, type ReduceName, type Value } from "../graph/node.ts"
import { mapTable } from "../ops/table.ts"
import { accessKind, broadcastAccess, collapse, vectorizable, type Access } from "./access.ts"
import { perItem, reads, writes, type Kernel } from "./kernel.ts"
import { baseOf, type Conflicts } from "./schedule.ts"

/** Whether `node` becomes part of a generated kernel. */
const isFused = (node: Node): boolean => isPointwise(node) || node.op.kind === "reduce"

const isPointwise = (node: Node): boolean =>
  node.op.kind === "map" || node.op.kind === "strided" || node.op.kind === "constant"

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
  for (const node of nodes.toReversed()) {
    if (node.op.kind === "reduce") groups.set(node, node)
    if (!isPointwise(node) || node.storages) continue
    const size = sizeOf(node.specs[0]!.shape)
    const roots = new Set<Node | undefined>()
    for (const { node: user, value } of users.get(node) ?? []) {
      const root = user.op.kind === "map" || user.op.kind === "reduce" ? groups.get(user) : undefined
      const whole = user.op.kind === "reduce" || sameElements(value, user)
      roots.add(whole && root && iterationSize(root) === size ? root : undefined)
    }
    // A constant is written into the kernels that read it; only others need it in memory.
    if (node.op.kind === "constant" && !outputs.has(node) && (users.get(node) ?? []).every(({ node: user }) => isFused(user)))
      continue
    const [only] = roots
    const inlined = roots.size === 1 && only && !outputs.has(node) && !conflicts.between(node, only)
    groups.set(node, inlined ? only : node)
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
  readonly params: readonly number[]
  /** Invocations, before any division into blocks. */
  readonly items: number
}

/** The kernel that computes the root of a group. `group` tells which nodes are computed inside it. */
export const fuse = (root: Node, groups: ReadonlyMap<Node, Node>): FusedGroup => {
  const leaves: Leaf[] = []
  const constants: number[] = []
  const lines: string[] = []
  const names = new Map<Node, string>()

  const load = (value: Value, access: Access): string => {
    const known = leaves.findIndex(
      (leaf) =>
        leaf.value.node === value.node &&
        leaf.value.output === value.output &&
        leaf.access.dims.join() === access.dims.join() &&
        leaf.access.strides.join() === access.strides.join(),
    )
    if (known >= 0) return `@${known}`
    leaves.push({ value, access })
    return `@${leaves.length - 1}`
  }
  const inside = (node: Node): boolean => node === root || (!node.storages && groups.get(node) === root)

  const compute = (node: Node): string => {
    const known = names.get(node)
    if (known) return known
    let expression: string
    switch (node.op.kind) {
      case "constant":
        constants.push(node.op.value)
        expression = `p.c${constants.length - 1} * one`
        break
      case "strided": {
        const [source] = node.inputs
        expression = constantOf(source!) ?? load(baseOf(source!), collapse(node.specs[0]!.shape, node.op.strides))
        break
      }
      case "map":
        expression = mapTable[node.op.fn].wgsl(...node.inputs.map((input) => operand(input, node)))
        break
      default:
        throw new Error(`${node.op.kind} is not element-wise`)
    }
    const name = `v${names.size}`
    lines.push(`let ${name} = ${expression};`)
    names.set(node, name)
    return name
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
    const shape = specOf(value).shape
    return load(base, whole ? collapse([sizeOf(shape)], [1]) : broadcastAccess(shape, user.specs[0]!.shape))
  }

  const { op } = root
  const reduction = op.kind === "reduce" ? op : undefined
  const result = reduction ? operand(root.inputs[0]!, root) : compute(root)
  const rowWise = reduction?.inner === 1 && reduction.length % 4 === 0
  const vector = (!reduction || rowWise) && leaves.every((leaf) => vectorizable(leaf.access))
  const { code, params, fields } = resolveLoads(lines, result, leaves, constants, vector)
  const body = reduction ? reduceBody(reduction.fn, code, vector) : mapBody(code, vector)
  const items = reduction ? reduction.outer * reduction.inner : Math.ceil(sizeOf(root.specs[0]!.shape) / (vector ? 4 : 1))
  const kernel: Kernel = {
    name: body,
    label: `${reduction ? `${reduction.fn} of ` : ""}${code.lines.join(" ") || code.result}`,
    params: { items: "u32", length: "u32", inner: "u32", blocks: "u32", ...fields },
    buffers: [
      ...leaves.map(({ access }, i) => reads(`in${i}`, elementType(access, vector))),
      writes("out", vector && !reduction ? "vec4f" : "f32"),
    ],
    body: () => body,
  }
  return { kernel, leaves: leaves.map((leaf) => leaf.value), params: [items, ...params], items }
}

/** Elements per block of a reduction: each block is summed in order, then the blocks are. */
export const reductionBlock = 64

const repeats = ({ strides }: Access): boolean => strides.at(-1) === 0

const elementType = (access: Access, vector: boolean): string =>
  vector && accessKind(access) !== "scalar" && !repeats(access) ? "vec4f" : "f32"

const resolveLoads = (
  lines: readonly string[],
  result: string,
  leaves: readonly Leaf[],
  constants: readonly number[],
  vector: boolean,
) => {
  const fields: Record<string, "u32" | "f32"> = {}
  const params: number[] = []
  const field = (name: string, type: "u32" | "f32", value: number): string => {
    fields[name] = type
    params.push(value)
    return `p.${name}`
  }
  constants.forEach((value, i) => field(`c${i}`, "f32", value))
  const loads = leaves.map(({ access }, leaf) => {
    const { dims, strides } = access
    const type = elementType(access, vector)
    let index = vector ? "i * 4u" : "i"
    switch (accessKind(access)) {
      case "scalar":
        index = "0u"
        break
      case "same":
        return `in${leaf}[i]`
      case "strided": {
        const terms: string[] = []
        let rest = `(${index})`
        for (let axis = dims.length - 1; axis >= 0; axis--) {
          const stride = strides[axis]!
          const dim = axis > 0 ? field(`d${leaf}_${axis}`, "u32", dims[axis]!) : undefined
          const at = dim ? `${rest} % ${dim}` : rest
          if (stride !== 0) terms.push(`(${at}) * ${field(`s${leaf}_${axis}`, "u32", stride)}`)
          if (dim) rest = `(${rest} / ${dim})`
        }
        index = terms.join(" + ") || "0u"
      }
    }
    if (type === "vec4f") return `in${leaf}[(${index}) / 4u]`
    return vector ? `vec4f(in${leaf}[${index}])` : `in${leaf}[${index}]`
  })
  // A load stands where it is first used, so that kernels read top to bottom like the expression.
  const substitute = (text: string) => text.replace(/@(\d+)/g, (_, leaf: string) => loads[Number(leaf)]!)
  return { code: { lines: lines.map(substitute), result: substitute(result) }, params, fields }
}

interface Expression {
  readonly lines: readonly string[]
  readonly result: string
}

const units = (vector: boolean) =>
  vector ? "const zero = vec4f(0.0); const one = vec4f(1.0);" : "const zero = 0.0; const one = 1.0;"

const mapBody = ({ lines, result }: Expression, vector: boolean): string => `${units(vector)}
${perItem(64, "p.items")}
  ${lines.join("\n  ")}
  out[i] = ${result};
}`

const combine: Readonly<Record<ReduceName, { readonly start: string; readonly of: (a: string, b: string) => string }>> = {
  sum: { start: "0.0", of: (a, b) => `${a} + ${b}` },
  max: { start: "-0x1.fffffep+127", of: (a, b) => `max(${a}, ${b})` },
  min: { start: "0x1.fffffep+127", of: (a, b) => `min(${a}, ${b})` },
}

/**
 * One invocation per output and run of `p.blocks` blocks. Where there are few outputs and many elements the caller
 * launches one block per invocation and adds up the blocks with a second launch: the order of additions is the same.
 */
const reduceBody = (fn: ReduceName, { lines, result }: Expression, vector: boolean): string => {
  const { start, of } = combine[fn]
  const step = vector ? 4 : 1
  return `${units(vector)}
${perItem(64, "p.items * max(1u, (p.length + p.blocks * 64u - 1u) / (p.blocks * 64u))")}
  let item = i;
  let runs = max(1u, (p.length + p.blocks * 64u - 1u) / (p.blocks * 64u));
  let which = item / runs;
  let start = (item % runs) * p.blocks * 64u;
  let end = min(start + p.blocks * 64u, p.length);
  let base = (which / p.inner) * p.length * p.inner + which % p.inner;
  var total = f32(${start});
  for (var block = start; block < end; block += 64u) {
    var part = f32(${start});
    for (var k = block; k < min(block + 64u, end); k += ${step}u) {
      let i = ${vector ? "(base + k) / 4u" : "base + k * p.inner"};
      ${lines.join("\n      ")}
      let x = ${result};
      ${vector ? ["x", "y", "z", "w"].map((c) => `part = ${of("part", `x.${c}`)};`).join(" ") : `part = ${of("part", "x")};`}
    }
    total = ${of("total", "part")};
  }
  out[item] = total;
}`
}
