import { Storage } from "../device/storage.ts"
import { elementBytes } from "../dtype.ts"
import { TensorError } from "../errors.ts"
import { Tensor } from "../graph/tensor.ts"

/** Bytes at which a region may start: WebGPU's alignment of storage-buffer offsets. */
const alignment = 256

/** Where each parameter lies in a flat buffer. Gaps between them hold zeros. */
export interface ArenaLayout {
  readonly offsets: readonly number[]
  readonly bytes: number
}

export const arenaLayout = (params: readonly Tensor[]): ArenaLayout => {
  let bytes = 0
  const offsets = params.map((param) => {
    const offset = bytes
    bytes += Math.ceil((param.size * elementBytes) / alignment) * alignment
    return offset
  })
  return { offsets, bytes }
}

/** Tensors of many shapes side by side in one buffer, so that one launch can go through all of them. */
export class Arena {
  /** The whole buffer as one f32 vector. */
  readonly flat: Tensor
  /** One tensor per parameter, over its part of the buffer. */
  readonly views: readonly Tensor[]

  readonly #layout: ArenaLayout

  /** Zeros in the shapes of `params`. */
  constructor(params: readonly Tensor[], layout: ArenaLayout, owner: string) {
    const { gpu } = params[0]!
    this.#layout = layout
    this.flat = gpu.zeros([layout.bytes / elementBytes], "f32", owner)
    this.views = params.map((param, i) => gpu.wrap(this.#region(layout.offsets[i]!, param.size), param.shape, "f32"))
  }

  #region(offset: number, size: number): Storage {
    const { node } = this.flat.value
    const { buffer, offset: start } = node.memory[0]!
    return new Storage(buffer, start + offset, Math.ceil((size * elementBytes) / 16) * 16, undefined, node)
  }

  /** Moves the values of `params` here: they are then views of this arena, and their own memory is given back. */
  adopt(params: readonly Tensor[]): void {
    const { gpu } = this.flat
    gpu.realize(params)
    const encoder = gpu.device.createCommandEncoder()
    const old = params.map((param, i) => {
      if (param.dtype !== "f32") throw new TensorError("arena", `parameters must be f32, not ${param.dtype}`)
      const source = param.value.node.memory[param.value.output]!
      const target = this.views[i]!.value.node.memory[0]!
      encoder.copyBufferToBuffer(source.buffer, source.offset, target.buffer, target.offset, target.bytes)
      return source
    })
    gpu.device.queue.submit([encoder.finish()])
    // A region of its own: the view's goes when the arena is forgotten, and parameters outlive their optimiser.
    params.forEach(({ value, size }, i) => {
      value.node.memory[value.output] = this.#region(this.#layout.offsets[i]!, size)
    })
    for (const storage of old) storage.release()
  }
}
