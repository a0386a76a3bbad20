import type { BufferPool } from "../device/pool.ts"
import type { Pipelines } from "../device/pipelines.ts"
import type { LaunchWork } from "../device/profile.ts"
import { Storage } from "../device/storage.ts"
import type { HostArray } from "../dtype.ts"
import { TensorError } from "../errors.ts"
import { Familiar, floatingCells, FloatingGroups, Overwritten, type Place } from "./bindings.ts"
import { packParams } from "./kernel.ts"
import type { Cell, Lowered, Step } from "./lower.ts"
import { timeLaunches, type Launch, type LaunchTimes } from "./timing.ts"
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
  readonly group: GPUBindGroup | FloatingGroups
  readonly grid: readonly [number, number, number]
}

const alignment = 256

const dispatch = (pass: GPUComputePassEncoder, { group, grid }: Recorded, places: ReadonlyMap<Cell, Place>): void => {
  pass.setBindGroup(0, group instanceof FloatingGroups ? group.get(places) : group)
  pass.dispatchWorkgroups(grid[0], grid[1], grid[2])
}

/** Launches recorded once (pipelines, bind groups, parameters, grids) and replayed with one pass and one submit. */
export class Program {
  readonly #context: ProgramContext
  readonly #lowered: Lowered
  readonly #plan: MemoryPlan
  readonly #params: GPUBuffer
  readonly #paramRegions: readonly { readonly offset: number; readonly size: number }[]
  /** Memory of others that launches read or write. */
  readonly #held: readonly Storage[]
  /** Inputs and outputs: memory of the caller, or about to be. */
  readonly #floating: ReadonlySet<Cell>
  readonly #familiar: ReadonlyMap<Cell, Familiar>
  readonly #overwritten: Overwritten
  #recorded: readonly Recorded[] = []
  #workspaceVersion = -1

  /** `once`: it runs a single time. */
  constructor(context: ProgramContext, lowered: Lowered, options: { readonly once: boolean }) {
    this.#context = context
    this.#lowered = lowered
    this.#plan = planMemory(lowered, options)
    const cells = [...lowered.steps.flatMap(({ bindings }) => bindings.map(({ cell }) => cell)), ...lowered.outputs]
    this.#held = [...new Set(cells.flatMap(({ storage }) => storage ?? []))]
    this.#floating = new Set([...lowered.inputs, ...lowered.outputs].filter(({ storage }) => !storage))
    this.#familiar = new Map([...this.#floating].map((cell) => [cell, new Familiar()]))
    this.#overwritten = new Overwritten(lowered)
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

  /** What is launched, in order. */
  get work(): readonly LaunchWork[] {
    return this.#lowered.steps.map(({ kernel, bindings, flops }) => ({
      name: kernel.label ?? kernel.name,
      bytes: bindings.reduce((sum, { bytes }) => sum + bytes, 0),
      flops,
    }))
  }

  /**
   * Runs on `inputs`, which are read where they lie unless the program overwrites them, and returns the outputs: fresh
   * memory, or the storage that was updated in place.
   */
  run(inputs: readonly (HostArray | Storage)[], owner: string): readonly Storage[] {
    const { device } = this.#context
    this.#ready(owner)
    const memory = new RunMemory(this.#context.pool, owner)
    try {
      const encoder = device.createCommandEncoder()
      const { places, outputs } = this.#bind(inputs, memory, encoder)
      this.#encode(encoder, places)
      this.#lowered.outputs.forEach((cell, i) => {
        const place = places.get(cell)
        const { buffer } = outputs[i]!
        if (place && place.buffer !== buffer)
          encoder.copyBufferToBuffer(place.buffer, place.offset, buffer, 0, cell.bytes)
      })
      device.queue.submit([encoder.finish()])
      memory.keep(outputs)
      return outputs
    } finally {
      memory.release()
    }
  }

  /** Runs as `run` does, drops the outputs, and tells how long every launch took. Nothing else may run meanwhile. */
  async time(inputs: readonly (HostArray | Storage)[], owner: string): Promise<LaunchTimes> {
    const { device, workspace } = this.#context
    this.#ready(owner)
    const memory = new RunMemory(this.#context.pool, owner)
    const unlock = workspace.lock()
    try {
      const encoder = device.createCommandEncoder()
      const { places } = this.#bind(inputs, memory, encoder)
      const launches = this.#recorded.map((recorded): Launch => (pass) => {
        pass.setPipeline(recorded.pipeline)
        dispatch(pass, recorded, places)
      })
      return await timeLaunches(device, encoder, launches)
    } finally {
      unlock()
      memory.release()
    }
  }

  /** Sees to it that all memory but that of inputs and outputs is there, and that launches know where. */
  #ready(owner: string): void {
    const { workspace } = this.#context
    if (this.#held.some(({ released }) => released))
      throw new TensorError(owner, "memory that the recorded program reads was disposed of")
    workspace.reserve(this.#plan.slots)
    if (this.#workspaceVersion !== workspace.version) this.#record()
  }

  /**
   * Where inputs and outputs lie in this run: where the caller has them, or, if they are small and come from a place that
   * is new, in the workspace, from and to which they are copied.
   */
  #bind(inputs: readonly (HostArray | Storage)[], memory: RunMemory, encoder: GPUCommandEncoder) {
    const places = new Map<Cell, Place>()
    inputs.forEach((input, i) => {
      const cell = this.#lowered.inputs[i]!
      places.set(cell, this.#bindInput(cell, input, memory, encoder))
    })
    const outputs = this.#lowered.outputs.map((cell) => {
      if (cell.storage) return cell.storage
      const storage = memory.fresh(cell.bytes)
      if (!places.has(cell)) places.set(cell, this.#staysAt(cell, storage) ? storage : this.#place(cell))
      return storage
    })
    return { places, outputs }
  }

  /** Whether launches should use the memory of the caller for an input or output. */
  #staysAt(cell: Cell, place: Place): boolean {
    return !this.#plan.slotOf.has(cell) || this.#familiar.get(cell)!.has(place)
  }

  #bindInput(cell: Cell, input: HostArray | Storage, memory: RunMemory, encoder: GPUCommandEncoder): Place {
    const isStorage = input instanceof Storage
    if (isStorage && this.#overwritten.canStay(cell, input) && this.#staysAt(cell, input)) return input
    const copy = this.#plan.slotOf.has(cell) ? this.#place(cell) : memory.fresh(cell.bytes)
    if (isStorage) encoder.copyBufferToBuffer(input.buffer, input.offset, copy.buffer, copy.offset, cell.bytes)
    else this.#context.device.queue.writeBuffer(copy.buffer, copy.offset, input)
    return copy
  }

  #encode(encoder: GPUCommandEncoder, places: ReadonlyMap<Cell, Place>): void {
    const pass = encoder.beginComputePass()
    let current: GPUComputePipeline | undefined
    for (const recorded of this.#recorded) {
      if (recorded.pipeline !== current) pass.setPipeline((current = recorded.pipeline))
      dispatch(pass, recorded, places)
    }
    pass.end()
  }

  dispose(): void {
    this.#params.destroy()
    this.#recorded = []
  }

  #record(): void {
    const { pipelines, workspace } = this.#context
    const nowhere = new Map<Cell, Place>()
    this.#recorded = this.#lowered.steps.map((step, i) => {
      const pipeline = pipelines.get(step.kernel)
      const create = (places: ReadonlyMap<Cell, Place>) => this.#group(step, pipeline, this.#paramRegions[i]!, places)
      const floating = floatingCells(step, this.#floating)
      const group = floating.length > 0 ? new FloatingGroups(floating, create) : create(nowhere)
      return { pipeline, group, grid: [step.grid[0], step.grid[1] ?? 1, step.grid[2] ?? 1] }
    })
    this.#workspaceVersion = workspace.version
  }

  #group(
    { kernel, bindings }: Step,
    pipeline: GPUComputePipeline,
    region: { readonly offset: number; readonly size: number },
    places: ReadonlyMap<Cell, Place>,
  ): GPUBindGroup {
    const buffers = bindings.map(({ cell, offset, bytes }, binding): GPUBindGroupEntry => {
      const place = places.get(cell) ?? this.#place(cell)
      return { binding: binding + 1, resource: { buffer: place.buffer, offset: place.offset + offset, size: bytes } }
    })
    const params: GPUBindGroupEntry[] =
      Object.keys(kernel.params).length > 0 ? [{ binding: 0, resource: { buffer: this.#params, ...region } }] : []
    return this.#context.device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [...params, ...buffers],
    })
  }

  /** Where a cell lies in every run. */
  #place(cell: Cell): Place {
    if (cell.storage) return cell.storage
    return { buffer: this.#context.workspace.buffer(this.#plan.slotOf.get(cell)!), offset: 0 }
  }
}

/** Memory that one run takes: what is not kept goes back, since later work waits for it in the queue. */
class RunMemory {
  readonly #pool: BufferPool
  readonly #owner: string
  readonly #taken: Storage[] = []
  #kept: ReadonlySet<Storage> = new Set()

  constructor(pool: BufferPool, owner: string) {
    this.#pool = pool
    this.#owner = owner
  }

  fresh(bytes: number): Storage {
    const home = { pool: this.#pool, owner: this.#owner }
    const storage = new Storage(this.#pool.acquire(bytes, this.#owner), 0, bytes, home)
    this.#taken.push(storage)
    return storage
  }

  keep(storages: readonly Storage[]): void {
    this.#kept = new Set(storages)
  }

  release(): void {
    for (const storage of this.#taken) if (!this.#kept.has(storage)) storage.release()
  }
}
