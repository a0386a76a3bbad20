import type { BufferPool } from "../device/pool.ts"
import type { Pipelines } from "../device/pipelines.ts"
import { Storage } from "../device/storage.ts"
import type { HostArray } from "../dtype.ts"
import { TensorError } from "../errors.ts"
import { packParams } from "./kernel.ts"
import type { Cell, Lowered } from "./lower.ts"
import { planMemory, type MemoryPlan } from "./plan.ts"
import type { Workspace } from "./workspace.ts"

export interface ProgramContext {
  readonly device: GPUDevice
  readonly pool: BufferPool
  readonly pipelines: Pipelines
  readonly workspace: Workspace
}

interface Recorded {
  readonly pipeline: GPUComputePipeline
  readonly group: GPUBindGroup
  readonly grid: readonly [number, number, number]
}

const alignment = 256

/** Launches recorded once (pipelines, bind groups, parameters, grids) and replayed with one pass and one submit. */
export class Program {
  readonly #context: ProgramContext
  readonly #lowered: Lowered
  readonly #plan: MemoryPlan
  readonly #params: GPUBuffer
  readonly #paramRegions: readonly { readonly offset: number; readonly size: number }[]
  /** Memory of others that launches read or write. */
  readonly #held: readonly Storage[]
  #recorded: readonly Recorded[] = []
  #workspaceVersion = -1

  constructor(context: ProgramContext, lowered: Lowered) {
    this.#context = context
    this.#lowered = lowered
    this.#plan = planMemory(lowered)
    const cells = [...lowered.steps.flatMap(({ bindings }) => bindings.map(({ cell }) => cell)), ...lowered.outputs]
    this.#held = [...new Set(cells.flatMap(({ storage }) => storage ?? []))]
    const blocks = lowered.steps.map(({ kernel, params }) => packParams(kernel, params))
    let end = 0
    this.#paramRegions = blocks.map((block) => {
      const region = { offset: end, size: Math.ceil(block.byteLength / alignment) * alignment }
      end += region.size
      return region
    })
    this.#params = context.device.createBuffer({ size: Math.max(alignment, end), usage: 0x0040 | 0x0008 })
    const bytes = new Uint8Array(Math.max(alignment, end))
    blocks.forEach((block, i) => bytes.set(new Uint8Array(block.buffer), this.#paramRegions[i]!.offset))
    context.device.queue.writeBuffer(this.#params, 0, bytes)
  }

  /** Kernel launches of one run. */
  get launches(): number {
    return this.#lowered.steps.length
  }

  /** Bytes of workspace that one run needs. */
  get workspaceBytes(): number {
    return this.#plan.slots.reduce((sum, bytes) => sum + bytes, 0)
  }

  /** Labels of the kernels in launch order. */
  get kernels(): readonly string[] {
    return this.#lowered.steps.map(({ kernel }) => kernel.label ?? kernel.name)
  }

  /** Runs with `inputs` copied in, and returns the outputs: fresh memory, or the storage that was updated in place. */
  run(inputs: readonly (HostArray | Storage)[], owner: string): readonly Storage[] {
    const { device, workspace } = this.#context
    if (this.#held.some(({ released }) => released))
      throw new TensorError(owner, "memory that the recorded program reads was disposed of")
    workspace.reserve(this.#plan.slots)
    if (this.#workspaceVersion !== workspace.version) this.#record()
    const outputs = this.#allocateOutputs(owner)
    const encoder = device.createCommandEncoder()
    inputs.forEach((input, i) => {
      const { buffer, offset } = this.#place(this.#lowered.inputs[i]!)
      if (input instanceof Storage)
        encoder.copyBufferToBuffer(input.buffer, input.offset, buffer, offset, this.#lowered.inputs[i]!.bytes)
      else device.queue.writeBuffer(buffer, offset, input)
    })
    const pass = encoder.beginComputePass()
    let current: GPUComputePipeline | undefined
    for (const { pipeline, group, grid } of this.#recorded) {
      if (pipeline !== current) pass.setPipeline((current = pipeline))
      pass.setBindGroup(0, group)
      pass.dispatchWorkgroups(grid[0], grid[1], grid[2])
    }
    pass.end()
    this.#lowered.outputs.forEach((cell, i) => {
      if (cell.storage) return
      const { buffer, offset } = this.#place(cell)
      encoder.copyBufferToBuffer(buffer, offset, outputs[i]!.buffer, 0, cell.bytes)
    })
    device.queue.submit([encoder.finish()])
    return outputs
  }

  /** All of them, or none if memory does not suffice. */
  #allocateOutputs(owner: string): readonly Storage[] {
    const { pool } = this.#context
    const fresh: Storage[] = []
    try {
      return this.#lowered.outputs.map((cell) => {
        if (cell.storage) return cell.storage
        const storage = new Storage(pool.acquire(cell.bytes, owner), 0, cell.bytes, { pool, owner })
        fresh.push(storage)
        return storage
      })
    } catch (error) {
      for (const storage of fresh) storage.release()
      throw error
    }
  }

  dispose(): void {
    this.#params.destroy()
    this.#recorded = []
  }

  #record(): void {
    const { device, pipelines, workspace } = this.#context
    this.#recorded = this.#lowered.steps.map(({ kernel, bindings, grid }, i) => {
      const pipeline = pipelines.get(kernel)
      const buffers = bindings.map(({ cell, offset, bytes }, binding): GPUBindGroupEntry => {
        const place = this.#place(cell)
        return { binding: binding + 1, resource: { buffer: place.buffer, offset: place.offset + offset, size: bytes } }
      })
      const params: GPUBindGroupEntry[] =
        Object.keys(kernel.params).length > 0
          ? [{ binding: 0, resource: { buffer: this.#params, ...this.#paramRegions[i]! } }]
          : []
      const group = device.createBindGroup({
        layout: pipeline.getBindGroupLayout(0),
        entries: [...params, ...buffers],
      })
      return { pipeline, group, grid: [grid[0], grid[1] ?? 1, grid[2] ?? 1] }
    })
    this.#workspaceVersion = workspace.version
  }

  #place(cell: Cell): { readonly buffer: GPUBuffer; readonly offset: number } {
    if (cell.storage) return cell.storage
    return { buffer: this.#context.workspace.buffer(this.#plan.slotOf.get(cell)!), offset: 0 }
  }
}
