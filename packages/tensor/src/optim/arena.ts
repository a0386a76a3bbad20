import { Storage } from "../device/storage.ts"
import { bytesOf, elementBytes, isHalf, type DType } from "../dtype.ts"
import type { Tensor } from "../graph/tensor.ts"

/** Bytes at which a region may start: WebGPU's alignment of storage-buffer offsets. */
const alignment = 256

/** Most bytes of an arena of several tensors: what every WebGPU adapter can bind, so that layouts are the same on all. */
const largest = 2 ** 27

/** Where each parameter, all of one dtype, lies in a flat buffer of f32. Gaps between them hold zeros. */
export interface ArenaLayout {
  readonly dtype: DType
  readonly params: readonly Tensor[]
  readonly offsets: readonly number[]
  readonly bytes: number
}

/** Lays `params` out one after another, over as many arenas as it takes to keep each within `limit` bytes. */
export const arenaLayouts = (params: readonly Tensor[], limit = largest): readonly ArenaLayout[] => {
  const layouts: { dtype: DType; params: Tensor[]; offsets: number[]; bytes: number }[] = []
  for (const param of params) {
    const { dtype } = param
    // Halves lie at half of these offsets.
    const unit = isHalf(dtype) ? 2 * alignment : alignment
    const bytes = Math.ceil((param.size * elementBytes) / unit) * unit
    let layout = layouts.at(-1)
    if (!layout || layout.dtype !== dtype || layout.bytes + bytes > limit)
      layouts.push((layout = { dtype, params: [], offsets: [], bytes: 0 }))
    layout.params.push(param)
    layout.offsets.push(layout.bytes)
    layout.bytes += bytes
  }
  return layouts
}

/** Tensors of many shapes side by side in one buffer, so that one launch can go through all of them. */
export class Arena {
  /** The whole buffer as one vector. */
  readonly flat: Tensor
  /** One tensor per parameter, over its part of the buffer. */
  readonly views: readonly Tensor[]

  readonly #layout: ArenaLayout

  /** Zeros in the shapes of the parameters. */
  constructor(layout: ArenaLayout, owner: string, dtype: DType = "f32") {
    const { gpu } = layout.params[0]!
    this.#layout = layout
    this.flat = gpu.zeros([layout.bytes / elementBytes], dtype, owner)
    this.views = layout.params.map((param, i) =>
      gpu.wrap(this.#region(layout.offsets[i]!, param.size), param.shape, dtype),
    )
  }

  #region(offset: number, size: number): Storage {
    const { dtype, value } = this.flat
    const { buffer, offset: start } = value.node.memory[0]!
    const begin = start + bytesOf(dtype, offset / elementBytes)
    return new Storage(buffer, begin, Math.ceil(bytesOf(dtype, size) / 16) * 16, undefined, value.node)
  }

  /** Moves the values of the parameters, which are of this arena's dtype, here: they are then views of this arena, and their own memory is given back. */
  adopt(): void {
    const { gpu } = this.flat
    const { params, offsets } = this.#layout
    gpu.realize(params)
    const encoder = gpu.device.createCommandEncoder()
    const old = params.map((param, i) => {
      const source = param.value.node.memory[param.value.output]!
      const target = this.views[i]!.value.node.memory[0]!
      encoder.copyBufferToBuffer(source.buffer, source.offset, target.buffer, target.offset, target.bytes)
      return source
    })
    gpu.device.queue.submit([encoder.finish()])
    // A region of its own: the view's goes when the arena is forgotten, and parameters outlive their optimiser.
    params.forEach(({ value, size }, i) => {
      value.node.memory[value.output] = this.#region(offsets[i]!, size)
    })
    for (const storage of old) storage.release()
    // Nothing else has those sizes: kept for reuse, they would be a second copy of the weights.
    gpu.trim()
  }

  /** Fills this arena with the values of another of the same layout, widened to f32. */
  widen({ flat }: Arena): void {
    const { gpu } = flat
    const wide = flat.cast("f32")
    gpu.realize([wide])
    const [source, target] = [wide, this.flat].map(({ value }) => value.node.memory[value.output]!)
    const encoder = gpu.device.createCommandEncoder()
    encoder.copyBufferToBuffer(source!.buffer, source!.offset, target!.buffer, target!.offset, target!.bytes)
    gpu.device.queue.submit([encoder.finish()])
    wide.dispose()
    gpu.trim()
  }
}
