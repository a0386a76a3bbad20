import type { BufferPool } from "../device/pool.ts"
import { TensorError } from "../errors.ts"

const owner = "workspace"

/**
 * The buffers that intermediates of all programs share. Programs run one after another on the queue, so the workspace
 * is as large as the largest of them needs, not as all together.
 */
export class Workspace {
  readonly #pool: BufferPool
  readonly #buffers: (GPUBuffer | undefined)[] = []
  #version = 0
  #locked = false

  constructor(pool: BufferPool) {
    this.#pool = pool
  }

  /** Changes whenever a buffer was replaced: recorded bind groups are then stale. */
  get version(): number {
    return this.#version
  }

  reserve(slots: readonly number[]): void {
    const small = slots.flatMap((bytes, slot) => ((this.#buffers[slot]?.size ?? 0) < bytes ? [slot] : []))
    if (this.#locked)
      throw new TensorError("profile", "a compiled function is being profiled: await it before running anything else")
    if (small.length === 0) return
    this.#version++
    // Given back first, and forgotten in case that there is no memory for larger ones. Nobody else wants their sizes.
    const outgrown = small.flatMap((slot) => this.#buffers[slot] ?? [])
    for (const slot of small) this.#buffers[slot] = undefined
    for (const buffer of outgrown) this.#pool.release(buffer, owner)
    if (outgrown.length > 0) this.#pool.trim()
    for (const slot of small) this.#buffers[slot] = this.#pool.acquire(slots[slot]!, owner)
  }

  /** Refuses other programs until the function that it returns is called. */
  lock(): () => void {
    this.#locked = true
    return () => {
      this.#locked = false
    }
  }

  buffer(slot: number): GPUBuffer {
    return this.#buffers[slot]!
  }

  release(): void {
    for (const buffer of this.#buffers) if (buffer) this.#pool.release(buffer, owner)
    this.#buffers.length = 0
    this.#version++
  }
}
