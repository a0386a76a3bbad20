import type { BufferPool } from "./pool.ts"

/** A region of a GPU buffer that holds one value. Regions of parameters share a buffer; others own theirs. */
export class Storage {
  #released = false

  constructor(
    readonly buffer: GPUBuffer,
    readonly offset: number,
    readonly bytes: number,
    /** Where the buffer goes back to; absent for a region of somebody else's buffer. */
    private readonly home?: { readonly pool: BufferPool; readonly owner: string },
    /** Kept alive as long as this region is, so that the buffer is not taken back under it. */
    readonly keeps?: object,
  ) {}

  get released(): boolean {
    return this.#released
  }

  release(): void {
    if (this.#released) return
    this.#released = true
    this.home?.pool.release(this.buffer, this.home.owner)
  }
}
