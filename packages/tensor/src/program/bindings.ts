import type { Storage } from "../device/storage.ts"
import type { Cell, Lowered, Step } from "./lower.ts"

/** Where a cell lies during a run. */
export interface Place {
  readonly buffer: GPUBuffer
  readonly offset: number
}

/** Offsets at which a storage buffer may be bound: WebGPU's default, which every device accepts. */
const alignment = 256

/** Sets of bind groups that a step keeps: callers that hold on to some results come back with the same few buffers. */
const keptGroups = 16

/** Places at which an input or output lay lately, so many of them. */
const keptPlaces = 8

const ids = new WeakMap<GPUBuffer, number>()
let named = 0
const idOf = (buffer: GPUBuffer): number => {
  const known = ids.get(buffer)
  if (known !== undefined) return known
  ids.set(buffer, ++named)
  return named
}

/** Knows where an input or output comes back to. */
export class Familiar {
  readonly #keys: string[] = []

  /** Whether it has been at `place` lately; it has from now on. */
  has({ buffer, offset }: Place): boolean {
    const key = `${idOf(buffer)}+${offset}`
    if (this.#keys.includes(key)) return true
    this.#keys.push(key)
    if (this.#keys.length > keptPlaces) this.#keys.shift()
    return false
  }
}

/** Bind groups of a step that reads an input or writes an output of its program: one for each set of their buffers. */
export class FloatingGroups {
  readonly #cells: readonly Cell[]
  readonly #groups = new Map<string, GPUBindGroup>()
  readonly #create: (places: ReadonlyMap<Cell, Place>) => GPUBindGroup

  constructor(cells: readonly Cell[], create: (places: ReadonlyMap<Cell, Place>) => GPUBindGroup) {
    this.#cells = cells
    this.#create = create
  }

  get(places: ReadonlyMap<Cell, Place>): GPUBindGroup {
    let key = ""
    for (const cell of this.#cells) {
      const { buffer, offset } = places.get(cell)!
      key += `${idOf(buffer)}+${offset} `
    }
    const known = this.#groups.get(key)
    if (known) return known
    if (this.#groups.size >= keptGroups) this.#groups.clear()
    const group = this.#create(places)
    this.#groups.set(key, group)
    return group
  }
}

/** The cells of a step that lie somewhere else in every run. */
export const floatingCells = ({ bindings }: Step, floating: ReadonlySet<Cell>): readonly Cell[] => [
  ...new Set(bindings.map(({ cell }) => cell).filter((cell) => floating.has(cell))),
]

/** What a program overwrites: its inputs may be bound where they lie only if they are no part of that. */
export class Overwritten {
  readonly #cells = new Set<Cell>()
  readonly #buffers = new Set<GPUBuffer>()

  constructor({ steps }: Lowered) {
    for (const { kernel, bindings } of steps)
      bindings.forEach(({ cell }, i) => {
        if (kernel.buffers[i]!.access === "read") return
        this.#cells.add(cell)
        if (cell.storage) this.#buffers.add(cell.storage.buffer)
      })
  }

  /** Whether launches can read input `cell` where the caller has it. */
  canStay(cell: Cell, { buffer, offset }: Storage): boolean {
    const fits = offset % alignment === 0 && offset + cell.bytes <= buffer.size
    return fits && !this.#cells.has(cell) && !this.#buffers.has(buffer)
  }
}
