import type { Cell, Lowered } from "./lower.ts"

export interface MemoryPlan {
  /** Bytes of each slot of the workspace, largest first. */
  readonly slots: readonly number[]
  readonly slotOf: ReadonlyMap<Cell, number>
}

/** From the first step that touches a cell to the last one, both included. */
interface Lifetime {
  readonly cell: Cell
  readonly first: number
  readonly last: number
}

/**
 * Most bytes of an input or output that has a slot too. Where the caller's memory is another one in every run, copying
 * so little costs less than the bind groups that each new place takes, which drivers only free when garbage is collected.
 */
const largestCopied = 2 ** 16

/**
 * Places every planned cell of a program but its large inputs and outputs, which have memory of their own, in a slot, so that
 * cells that are alive together never share one. Slots are whole buffers: WebGPU does not let one launch read and write
 * regions of the same buffer. A program that runs `once` has no bind groups to keep, and copies nothing.
 *
 * Cells are placed by size, the largest first, each in the smallest slot that is free for as long as it lives (greedy by
 * size: Y. Pisarchyk and J. Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020). No slot ever grows, and
 * a small cell that lives long takes no room from a large one.
 */
export const planMemory = (lowered: Lowered, { once }: { readonly once: boolean }): MemoryPlan => {
  const slots: { readonly bytes: number; readonly lives: Lifetime[] }[] = []
  const slotOf = new Map<Cell, number>()
  const lives = lifetimes(lowered, once ? 0 : largestCopied).toSorted(
    (a, b) => b.cell.bytes - a.cell.bytes || a.first - b.first,
  )
  for (const life of lives) {
    const isFree = ({ first, last }: Lifetime) => last < life.first || life.last < first
    const free = slots.findLastIndex((slot) => slot.lives.every(isFree))
    const slot = free >= 0 ? free : slots.push({ bytes: life.cell.bytes, lives: [] }) - 1
    slots[slot]!.lives.push(life)
    slotOf.set(life.cell, slot)
  }
  // They come largest first, so that the slots of different programs line up and can share one workspace.
  return { slots: slots.map(({ bytes }) => bytes), slotOf }
}

/** An input is there before the first step, an output until after the last one. */
const lifetimes = ({ steps, inputs, outputs }: Lowered, copied: number): readonly Lifetime[] => {
  const elsewhere = new Set([...inputs, ...outputs].filter(({ bytes }) => bytes > copied))
  const first = new Map<Cell, number>()
  const last = new Map<Cell, number>()
  const touch = (cell: Cell, step: number) => {
    if (cell.storage || elsewhere.has(cell)) return
    if (!first.has(cell)) first.set(cell, step)
    last.set(cell, step)
  }
  for (const cell of inputs) touch(cell, -1)
  steps.forEach(({ bindings }, step) => bindings.forEach(({ cell }) => touch(cell, step)))
  for (const cell of outputs) touch(cell, steps.length)
  return [...first].map(([cell, step]) => ({ cell, first: step, last: last.get(cell)! }))
}
