import type { BufferPool } from "../device/pool.ts"

const owner = "workspace"

/**
 * The buffers that intermediates of all programs share. Programs run one after another on the queue, so the workspace
 * is as large as the largest of them needs, not as all together.
 */
export class Workspace {
  readonly #pool: BufferPool
  readonly #buffers: (GPUBuffer | undefined)[] = []
  #version = 0

  constructor(pool: BufferPool) {
    this.#pool = pool
  }

  /** Changes whenever a buffer was replaced: recorded bind groups are then stale. */
  get version(): number {
    return this.#version
  }

  reserve(slots: readonly number[]): void {
    slots.forEach((bytes, slot) => {
      const held = this.#buffers[slot]
      if (held && held.size >= bytes) return
      // Given back first, and forgotten in case that there is no memory for a larger one.
      this.#buffers[slot] = undefined
      if (held) this.#pool.release(held, owner)
      this.#buffers[slot] = this.#pool.acquire(bytes, owner)
      this.#version++
    })
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
