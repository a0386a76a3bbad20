import type { Cell, Lowered } from "./lower.ts"

export interface MemoryPlan {
  /** Bytes of each slot of the workspace, largest first. */
  readonly slots: readonly number[]
  readonly slotOf: ReadonlyMap<Cell, number>
}

/**
 * Places every planned cell of a program in a slot, so that cells that are alive together never share one. Slots are
 * whole buffers: WebGPU does not let one launch read and write regions of the same buffer.
 */
export const planMemory = ({ steps, inputs, outputs }: Lowered): MemoryPlan => {
  const lastUse = new Map<Cell, number>()
  steps.forEach(({ bindings }, i) => {
    for (const { cell } of bindings) if (!cell.storage) lastUse.set(cell, i)
  })
  for (const cell of [...inputs, ...outputs]) if (!cell.storage) lastUse.set(cell, Number.POSITIVE_INFINITY)

  const sizes: number[] = []
  const free: number[] = []
  const slots = new Map<Cell, number>()
  const assign = (cell: Cell) => {
    // The tightest free slot, or the largest one grown, or a new one.
    const fitting = free.filter((slot) => sizes[slot]! >= cell.bytes).sort((a, b) => sizes[a]! - sizes[b]!)[0]
    const slot = fitting ?? free.sort((a, b) => sizes[b]! - sizes[a]!)[0] ?? sizes.push(0) - 1
    if (free.includes(slot)) free.splice(free.indexOf(slot), 1)
    sizes[slot] = Math.max(sizes[slot]!, cell.bytes)
    slots.set(cell, slot)
  }
  for (const cell of inputs) if (!cell.storage && !slots.has(cell)) assign(cell)
  steps.forEach(({ bindings }, i) => {
    const cells = new Set(bindings.map(({ cell }) => cell))
    for (const cell of cells) if (!cell.storage && !slots.has(cell)) assign(cell)
    for (const cell of cells) if (!cell.storage && lastUse.get(cell) === i) free.push(slots.get(cell)!)
  })
  for (const cell of outputs) if (!cell.storage && !slots.has(cell)) assign(cell)

  // Largest first, so that the slots of different programs line up and can share one workspace.
  const order = sizes.map((_, slot) => slot).sort((a, b) => sizes[b]! - sizes[a]! || a - b)
  const rank = new Map(order.map((slot, position) => [slot, position]))
  return {
    slots: order.map((slot) => sizes[slot]!),
    slotOf: new Map([...slots].map(([cell, slot]) => [cell, rank.get(slot)!])),
  }
}
