import { nextNodeId, type Node } from "../graph/node.ts"
import type { Tensor } from "../graph/tensor.ts"
import type { Gpu } from "./gpu.ts"
import type { Storage } from "./storage.ts"

export interface ScopeReport {
  /** Tensors of the scope that hold memory. */
  readonly tensors: number
  readonly bytes: number
}

/**
 * The memory of the tensors that were made while it was the innermost scope of its device; of those made before and
 * computed only now it keeps out. Disposing of it gives back what was not kept, and what was kept is a value from then on:
 * no gradient goes through it into the scope.
 */
export class Scope {
  readonly #gpu: Gpu
  /** The open scopes of the device, the innermost last. */
  readonly #open: Scope[]
  readonly #held = new Set<Storage>()
  readonly #kept: Node[] = []
  /** Tensors made before have smaller ids: what they get only now is theirs, and stays. */
  readonly #start = nextNodeId()

  constructor(gpu: Gpu, open: Scope[]) {
    this.#gpu = gpu
    this.#open = open
  }

  /** For the device: whether `node` was made while this scope was open. */
  covers(node: Node): boolean {
    return node.id >= this.#start
  }

  /** For the device: memory of a node that was made in this scope. */
  add(storage: Storage): void {
    this.#held.add(storage)
  }

  /** Lets a tensor, or several, live on: in the scope around this one, if there is one. Computes what is not yet there. */
  keep<Kept extends Tensor | readonly Tensor[]>(kept: Kept): Kept {
    const tensors = (Array.isArray(kept) ? kept : [kept]) as readonly Tensor[]
    this.#gpu.realize(tensors)
    const outer = this.#open[this.#open.indexOf(this) - 1]
    for (const { value } of tensors) {
      if (this.covers(value.node)) this.#kept.push(value.node)
      const storage = value.node.memory[value.output]!
      if (this.#held.delete(storage)) outer?.add(storage)
    }
    return kept
  }

  /** What would be given back now. */
  report(): ScopeReport {
    const live = [...this.#held].filter(({ released }) => !released)
    return { tensors: live.length, bytes: live.reduce((sum, { bytes }) => sum + bytes, 0) }
  }

  dispose(): void {
    const place = this.#open.indexOf(this)
    if (place >= 0) this.#open.splice(place, 1)
    for (const storage of this.#held) storage.release()
    this.#held.clear()
    for (const node of this.#kept.splice(0)) node.forget()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}
