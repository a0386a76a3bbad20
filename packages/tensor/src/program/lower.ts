import { bytesOf, computeType, sizeOf } from "../dtype.ts"
import type { Storage } from "../device/storage.ts"
import { OutOfMemoryError, TensorError } from "../errors.ts"
import type { DeviceTraits, Emitter, FusedOp, Operand } from "../graph/fused-op.ts"
import { specOf, type Node, type Spec, type Value } from "../graph/node.ts"
import { accumulateKernel } from "../kernels/accumulate.ts"
import { fuse } from "./fuse.ts"
import { fusionGroups } from "./groups.ts"
import { gridFor, itemsGrid, type Grid, type Kernel } from "./kernel.ts"
import { combineParts, fanIn, reductionStart, widestLevel } from "./reduce.ts"
import { baseOf, Conflicts, placeOf, reachable, schedule } from "./schedule.ts"

/** Memory of a program: a storage that exists, or bytes that the planner places. */
export interface Cell {
  readonly bytes: number
  readonly storage?: Storage
}

/** The part of a cell that a launch binds. */
export interface Binding {
  readonly cell: Cell
  readonly offset: number
  readonly bytes: number
}

export interface Step {
  readonly kernel: Kernel
  readonly bindings: readonly Binding[]
  readonly params: readonly number[]
  readonly grid: Grid
  /** Floating-point operations, where they are known. */
  readonly flops: number | undefined
}

export interface Lowered {
  readonly steps: readonly Step[]
  readonly inputs: readonly Cell[]
  readonly outputs: readonly Cell[]
}

interface Region extends Operand {
  readonly spec: Spec
  readonly cell: Cell
  /** Bytes from the start of the cell. */
  readonly offset: number
}

const held = (storage: Storage): Cell => {
  if (storage.released) throw new TensorError("read", "the tensor's memory was disposed of")
  return { bytes: storage.bytes, storage }
}

const whole = (spec: Spec, cell: Cell): Region => ({ spec, cell, offset: 0 })

const binding = (operand: Operand): Binding => {
  const { cell, offset, spec } = operand as Region
  return { cell, offset, bytes: planned(spec).bytes }
}

/** Turns a graph into launches: orders the nodes, fuses what is element-wise, and lets the fused operations emit. */
export const lower = (
  outputs: readonly Value[],
  effects: readonly Node[],
  inputs: readonly Node[],
  device: DeviceTraits,
): Lowered => new Lowering(outputs, effects, inputs, device).result

class Lowering implements Emitter {
  readonly result: Lowered
  readonly #steps: Step[] = []
  readonly #cells = new Map<Node, Cell[]>()
  readonly #merged = new Map<Node, Node>()

  constructor(
    outputs: readonly Value[],
    effects: readonly Node[],
    inputs: readonly Node[],
    readonly device: DeviceTraits,
  ) {
    const roots = [...outputs.map((value) => value.node), ...effects]
    const written = reachable(roots)
    const materialized = new Set(outputs.map((value) => baseOf(value).node))
    const conflicts = new Conflicts(written)
    const groups = fusionGroups(written, materialized, conflicts, device.maxStorageBuffers - 1)
    const nodes = schedule(written, conflicts, (node) => groups.get(node) ?? node)
    this.#mergeAccumulations(nodes, materialized)
    for (const node of inputs) this.#place(node, node.specs.map(planned))
    for (const node of nodes) this.#lower(node, groups)
    this.result = {
      steps: this.#steps,
      inputs: inputs.map((node) => this.#cells.get(node)![0]!),
      outputs: outputs.map((value) => this.#region(value).cell),
    }
  }

  launch(kernel: Kernel, operands: readonly Operand[], params: readonly number[], grid: Grid, flops?: number): void {
    const bindings = operands.map(binding)
    const limit = this.device.maxBindingSize
    const large = bindings.find(({ bytes }) => bytes > limit)
    if (large)
      throw new OutOfMemoryError(
        kernel.label ?? kernel.name,
        `a kernel would have to read or write ${large.bytes} bytes of one tensor, more than the adapter's ${limit}`,
      )
    this.#steps.push({ kernel, bindings, params, grid, flops })
  }

  scratch(spec: Spec): Operand {
    return whole(spec, planned(spec))
  }

  rows(operand: Operand, start: number, count: number): Operand {
    const { cell, offset, spec } = operand as Region
    const rowElements = sizeOf(spec.shape.slice(1))
    const region: Region = {
      spec: { shape: [count, ...spec.shape.slice(1)], dtype: spec.dtype },
      cell,
      offset: offset + bytesOf(spec.dtype, start * rowElements),
    }
    return region
  }

  /**
   * `target += f(…)` becomes one launch when f can add to a target itself, nobody else wants its value and nothing runs
   * in between. WebGPU lets no launch read and write one buffer, so f must not read the target's.
   */
  #mergeAccumulations(nodes: readonly Node[], materialized: ReadonlySet<Node>): void {
    const uses = new Map<Node, number>()
    for (const node of nodes) for (const input of node.inputs) uses.set(input.node, (uses.get(input.node) ?? 0) + 1)
    nodes.forEach((node, i) => {
      if (node.op.kind !== "accumulate") return
      const source = node.inputs[1]!.node
      const { place } = placeOf(node.inputs[0]!)
      const apart = source.inputs.every((input) => placeOf(input).place !== place)
      if (
        accumulating(source) &&
        nodes[i - 1] === source &&
        uses.get(source) === 1 &&
        !materialized.has(source) &&
        apart
      )
        this.#merged.set(source, node)
    })
  }

  #lower(node: Node, groups: ReadonlyMap<Node, Node>): void {
    if (this.#cells.has(node)) return
    if (node.storages) return this.#place(node, node.storages.map(held))
    const { op } = node
    switch (op.kind) {
      case "reshape":
        return
      case "constant":
      case "map":
      case "cast":
      case "view":
      case "pad":
        if (groups.get(node) === node) this.#pointwise(node, groups)
        return
      case "reduce":
        return this.#reduce(node, groups)
      case "accumulate":
        return this.#accumulate(node)
      case "fused":
        if (!this.#merged.has(node)) this.#fused(node, op.op as unknown as FusedOp<unknown>, op.attributes, node.inputs)
        return
      case "leaf":
      case "input":
        throw new Error(`${op.kind} without memory: a tensor was disposed of, or belongs to another compiled function`)
      default:
        return op satisfies never
    }
  }

  #pointwise(node: Node, groups: ReadonlyMap<Node, Node>): void {
    const { kernel, leaves, params, items } = fuse(node, groups)
    const out = this.#allocate(node)
    const { params: counts, grid } = itemsGrid(items, this.device)
    this.launch(kernel, [...leaves.map((leaf) => this.#region(leaf)), out], [...counts, ...params], grid)
  }

  #reduce(node: Node, groups: ReadonlyMap<Node, Node>): void {
    if (node.op.kind !== "reduce") return
    const { length, inner, fn } = node.op
    const { kernel, leaves, params, items } = fuse(node, groups)
    const out = this.#allocate(node)
    const operands = leaves.map((leaf) => this.#region(leaf))
    const type = computeType(node.specs[0]!.dtype)
    const empty = reductionStart(fn, type)
    const run = (target: Operand, span: number) =>
      this.launch(
        kernel,
        [...operands, target],
        [items, length, inner, span, empty, ...params],
        gridFor(items * Math.max(1, Math.ceil(length / span)), 64),
      )
    const { isSoftware } = this.device
    // Few cores are busy with few outputs.
    if (length <= 8 * fanIn || items >= (isSoftware ? 64 : 1024)) return run(out, Math.max(1, length))
    let reach = isSoftware && items * length >= 64 * fanIn ** 2 ? fanIn ** 2 : fanIn
    let count = Math.ceil(length / reach)
    let parts = this.scratch({ shape: [items, count], dtype: type })
    run(parts, reach)
    const combine = (target: Operand, group: number) => {
      const grid = gridFor(items * Math.ceil(count / group), 64)
      this.launch(combineParts(fn, type), [parts, target], [items, count, group, empty], grid)
    }
    while (count > fanIn && reach < widestLevel) {
      const fewer = this.scratch({ shape: [items, Math.ceil(count / fanIn)], dtype: type })
      combine(fewer, fanIn)
      parts = fewer
      count = Math.ceil(count / fanIn)
      reach *= fanIn
    }
    combine(out, count)
  }

  #accumulate(node: Node): void {
    const [target, value] = node.inputs
    const region = this.#region(target!)
    this.#place(node, [region.cell])
    const source = value!.node
    if (this.#merged.get(source) === node) {
      const { op, attributes } = accumulating(source)!
      return op.lower(this, [...source.inputs.map((input) => this.#region(input)), region], [region], attributes)
    }
    const size = sizeOf(region.spec.shape)
    this.launch(accumulateKernel, [this.#region(value!), region], [size], gridFor(size, 256))
  }

  #fused(node: Node, op: FusedOp<unknown>, attributes: unknown, inputs: readonly Value[]): void {
    const operands = inputs.map((input) => this.#region(input))
    const inPlace = op.inPlace?.(attributes) ?? {}
    const cells = node.specs.map((spec, i) => {
      const over = inPlace[i]
      return over === undefined ? planned(spec) : operands[over]!.cell
    })
    this.#place(node, cells)
    op.lower(
      this,
      operands,
      node.specs.map((spec, i) => whole(spec, cells[i]!)),
      attributes,
    )
  }

  #allocate(node: Node): Region {
    const [spec] = node.specs
    const cell = planned(spec!)
    this.#place(node, [cell])
    return whole(spec!, cell)
  }

  #place(node: Node, cells: Cell[]): void {
    this.#cells.set(node, cells)
  }

  #region(value: Value): Region {
    const base = baseOf(value)
    const cell = this.#cells.get(base.node)?.[base.output]
    if (!cell) throw new Error(`${base.node.op.kind} was not lowered before its use`)
    return whole(specOf(value), cell)
  }
}

/** The form of an operation that adds its output to a target, if it has one and has not run yet. */
const accumulating = ({ op: kind, storages }: Node): { op: FusedOp<unknown>; attributes: unknown } | undefined => {
  if (kind.kind !== "fused" || storages) return undefined
  const op = kind.op as unknown as FusedOp<unknown>
  const attributes = op.accumulating?.(kind.attributes)
  return attributes === undefined ? undefined : { op, attributes }
}

const planned = ({ shape, dtype }: Spec): Cell => ({
  bytes: Math.max(16, Math.ceil(bytesOf(dtype, sizeOf(shape)) / 16) * 16),
})
