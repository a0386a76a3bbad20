import { OutOfMemoryError } from "../errors.ts"

/** Bytes on the GPU, exact to the byte that was asked of the driver. */
export interface MemoryReport {
  /** Held by live tensors and by the shared workspace of compiled programs. */
  readonly inUse: number
  /** Kept for reuse. */
  readonly pooled: number
  /** Largest value of `inUse + pooled` so far. */
  readonly peak: number
  /** `inUse` by what it is for. */
  readonly byOwner: Readonly<Record<string, number>>
}

const usage = 0x0004 | 0x0008 | 0x0080 // COPY_SRC | COPY_DST | STORAGE

/** Sizes grow in eighths of a power of two: at most 12.5 % is lost, and few distinct sizes exist. */
const sizeClass = (bytes: number): number => {
  if (bytes <= 256) return 256
  const step = 2 ** Math.max(8, Math.floor(Math.log2(bytes - 1)) - 2)
  return Math.ceil(bytes / step) * step
}

/** The one allocator of GPU buffers. Freed buffers wait here for the next request of their size class. */
export class BufferPool {
  readonly #device: GPUDevice
  readonly #limit: number
  readonly #free = new Map<number, GPUBuffer[]>()
  readonly #owners = new Map<string, number>()
  /** Buffers that the driver had no memory for. */
  readonly #refused = new WeakSet<GPUBuffer>()
  readonly #onRefusal: (error: OutOfMemoryError) => void
  #inUse = 0
  #pooled = 0
  #peak = 0

  /** `onRefusal` hears, some time after a buffer was asked for, that the driver had no memory for it. */
  constructor(device: GPUDevice, limit: number, onRefusal: (error: OutOfMemoryError) => void) {
    this.#device = device
    this.#limit = limit
    this.#onRefusal = onRefusal
  }

  /** A storage buffer of at least `bytes`. Contents are undefined. Throws {@link OutOfMemoryError}. */
  acquire(bytes: number, owner: string): GPUBuffer {
    const size = sizeClass(bytes)
    const reused = this.#free.get(size)?.pop()
    if (reused) this.#pooled -= size
    const buffer = reused ?? this.#create(size, owner)
    this.#account(owner, size)
    return buffer
  }

  release(buffer: GPUBuffer, owner: string): void {
    this.#account(owner, -buffer.size)
    if (this.#refused.has(buffer)) return buffer.destroy()
    this.#pooled += buffer.size
    const list = this.#free.get(buffer.size)
    if (list) list.push(buffer)
    else this.#free.set(buffer.size, [buffer])
  }

  /** Gives pooled buffers back to the driver. */
  trim(): void {
    for (const list of this.#free.values()) for (const buffer of list) buffer.destroy()
    this.#free.clear()
    this.#pooled = 0
  }

  report(): MemoryReport {
    return { inUse: this.#inUse, pooled: this.#pooled, peak: this.#peak, byOwner: Object.fromEntries(this.#owners) }
  }

  #create(size: number, owner: string): GPUBuffer {
    const { maxBufferSize } = this.#device.limits
    if (size > maxBufferSize)
      throw new OutOfMemoryError(owner, `a buffer of ${size} bytes exceeds the adapter's ${maxBufferSize}`)
    if (this.#inUse + this.#pooled + size > this.#limit) this.trim()
    if (this.#inUse + size > this.#limit)
      throw new OutOfMemoryError(
        owner,
        `${size} bytes more than the ${this.#inUse} in use would pass the limit of ${this.#limit}`,
      )
    this.#device.pushErrorScope("out-of-memory")
    const buffer = this.#device.createBuffer({ size, usage })
    void this.#device.popErrorScope().then(
      (error) => error && this.#refuse(buffer, owner, error.message),
      () => {}, // The device is gone, which is reported elsewhere.
    )
    this.#peak = Math.max(this.#peak, this.#inUse + this.#pooled + size)
    return buffer
  }

  /** Takes back a buffer that never had memory. Who holds it still does, but nobody will get it again. */
  #refuse(buffer: GPUBuffer, owner: string, reason: string): void {
    this.#refused.add(buffer)
    const waiting = this.#free.get(buffer.size)
    const place = waiting?.indexOf(buffer) ?? -1
    if (place >= 0) {
      waiting!.splice(place, 1)
      this.#pooled -= buffer.size
    }
    this.#onRefusal(new OutOfMemoryError(owner, `the driver has no memory for ${buffer.size} bytes more: ${reason}`))
  }

  #account(owner: string, bytes: number): void {
    this.#inUse += bytes
    const held = (this.#owners.get(owner) ?? 0) + bytes
    if (held === 0) this.#owners.delete(owner)
    else this.#owners.set(owner, held)
  }
}
