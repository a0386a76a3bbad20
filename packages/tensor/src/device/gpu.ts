import type { AdapterInfo } from "../adapter/info.ts"
import {
  bytesOf,
  checkNumber,
  computeType,
  dtypeOf,
  hostArray,
  isQuantized,
  sameShape,
  showShape,
  storedArray,
  type ComputeType,
  type DType,
  type HostArray,
  type Shape,
} from "../dtype.ts"
import { ShapeError, TensorError } from "../errors.ts"
import type { DeviceTraits } from "../graph/fused-op.ts"
import { endsGradient } from "../graph/backward.ts"
import { Node, type Value } from "../graph/node.ts"
import { Tensor } from "../graph/tensor.ts"
import { lower } from "../program/lower.ts"
import { Program } from "../program/program.ts"
import { Workspace } from "../program/workspace.ts"
import { compileFunction, type Compiled, type Outputs } from "./compiled.ts"
import { explanationOf, type Explanation } from "./explanation.ts"
import { Faults } from "./faults.ts"
import { TensorFactory } from "./factory.ts"
import { KernelChoice, type KernelChoiceOptions } from "./kernel-choice.ts"
import { Pipelines } from "./pipelines.ts"
import { BufferPool, type MemoryReport } from "./pool.ts"
import { readBack } from "./read-back.ts"
import { Storage } from "./storage.ts"
import { LeakTracker, type Leak } from "./leaks.ts"
import { Scope } from "./scope.ts"
import type { Tuning } from "./traits.ts"
import { settle } from "./wait.ts"

/** How a `Gpu` keeps a device. */
export interface GpuOptions extends KernelChoiceOptions {
  /** Bytes that tensors and workspace may take together. */
  readonly memoryLimit?: number
  readonly trackLeaks?: boolean
  /** Kernels do not run: the device only plans and counts. */
  readonly rehearses?: boolean
}

/** Operations that update memory in place while a function is traced. */
interface Trace {
  readonly effects: Node[]
}

/** A WebGPU device and everything on it: memory, pipelines, and the programs that were recorded. */
export class Gpu extends TensorFactory {
  readonly adapter: AdapterInfo
  readonly device: GPUDevice
  /** Whether it keeps the books and computes nothing. */
  readonly rehearses: boolean
  readonly #pool: BufferPool
  readonly #pipelines: Pipelines
  readonly #workspace: Workspace
  readonly #scopes: Scope[] = []
  readonly #leaks: LeakTracker | undefined
  readonly #finalizer = new FinalizationRegistry<Storage>((storage) => {
    if (!storage.released) this.#leaks?.found(storage)
    storage.release()
  })
  readonly #faults: Faults
  readonly #kernels: KernelChoice
  #trace: Trace | undefined

  constructor(device: GPUDevice, adapter: AdapterInfo, options: GpuOptions = {}) {
    super()
    this.#leaks = options.trackLeaks ? new LeakTracker() : undefined
    this.device = device
    this.adapter = adapter
    this.rehearses = options.rehearses ?? false
    this.#faults = new Faults(device)
    this.#kernels = new KernelChoice(device, adapter, this.#faults, options)
    this.#pool = new BufferPool(device, options.memoryLimit ?? Number.POSITIVE_INFINITY, (error) => {
      this.#faults.report(error)
      // Whatever waits to be used again may make room, and the workspace may be what there was no room for.
      this.trim()
    })
    this.#workspace = new Workspace(this.#pool)
    // What is wrong with a shader tells more than the errors that follow from it.
    this.#pipelines = new Pipelines(device, {
      onError: (error) => this.#faults.explain(error),
      onBuilt: (kernel, pipeline) => {
        if (!this.rehearses) this.#kernels.test(kernel, pipeline)
      },
    })
  }

  /** What kernels may know of the device. */
  get traits(): DeviceTraits {
    return this.#kernels.traits
  }

  /** How kernels are chosen here, and from what. */
  get tuning(): Tuning {
    return this.#kernels.tuning
  }

  /** A tensor over fresh memory that starts with `bytes`. For the library's own operations. */
  upload(bytes: ArrayBufferView<ArrayBuffer>, shape: Shape, dtype: DType, owner: string): Tensor {
    const storage = this.#allocate(bytes.byteLength, owner)
    this.device.queue.writeBuffer(storage.buffer, storage.offset, bytes)
    return this.wrap(storage, shape, dtype)
  }

  /** A scalar that needs no memory: kernels take it as a parameter. `operation` is whom an error names. */
  constant(value: number, dtype: ComputeType = "f32", operation = "constant"): Tensor {
    checkNumber(operation, value, dtype)
    return new Tensor(this, { node: new Node({ kind: "constant", value }, [], [{ shape: [], dtype }]), output: 0 })
  }

  /**
   * Makes a function of tensors into a recorded program. The first call with inputs of some shapes traces `fn`, plans
   * memory and records; later calls copy the inputs in and replay. Tensors that `fn` closes over are read where they
   * are, so parameters may change between calls; JavaScript values are frozen at the first call.
   */
  compile<Args extends readonly Tensor[], Result extends Outputs>(
    fn: (...inputs: Args) => Result,
    options: { readonly name?: string } = {},
  ): Compiled<Args, Result> {
    return compileFunction(
      {
        gpu: this,
        ready: (name) => {
          this.#faults.check(name)
          if (this.#trace) throw new TensorError("compile", "a compiled function may not be called inside another")
        },
        trace: (run) => this.#traced(run),
        program: (outputs, effects, inputs) => this.#program(outputs, effects, inputs, { once: false }),
        storages: (tensors) => this.#storages(tensors),
        kernelsVersion: () => this.#kernels.version,
        settled: (operation, promise) => this.#settled(operation, promise),
      },
      fn,
      options.name ?? (fn.name || "compiled"),
    )
  }

  /**
   * Collects the tensors that get memory from now on, to give it back at the end of a block: `using scope = gpu.scope()`.
   * Scopes nest. Optimisers and what a recorded program reads belong to no scope.
   */
  scope(): Scope {
    const scope = new Scope(this, this.#scopes)
    this.#scopes.push(scope)
    return scope
  }

  /** Runs `make` outside of every scope: for what lives as long as something else does. */
  unscoped<A>(make: () => A): A {
    const scopes = this.#scopes.splice(0)
    try {
      return make()
    } finally {
      this.#scopes.push(...scopes)
    }
  }

  /** Memory that only the garbage collector gave back, by where it was made; empty without `trackLeaks`. */
  leaks(): readonly Leak[] {
    return this.#leaks?.report() ?? []
  }

  /** The kernels that reading `tensors` would launch. Nothing is computed. */
  explain(...tensors: readonly Tensor[]): Explanation {
    const pending = tensors.map(({ value }) => value).filter(({ node, output }) => !node.memory[output])
    const program = this.#program(pending, [], [], { once: true })
    try {
      return explanationOf(program)
    } finally {
      program.dispose()
    }
  }

  /** Runs what is needed to give `tensors` memory, all in one program. */
  realize(tensors: readonly Tensor[]): void {
    this.#storages(tensors)
  }

  /**
   * Keeps `tensors` as they are now, before memory that they depend on is overwritten. While a function is traced
   * nothing needs doing: its program keeps the order.
   */
  pin(tensors: readonly Tensor[]): void {
    if (!this.#trace) this.realize(tensors.filter(({ value }) => value.node.op.kind !== "constant"))
  }

  /** Copies a tensor to the host. Waits for the GPU without burning a core. */
  async read(tensor: Tensor): Promise<HostArray> {
    const [array] = await this.readAll([tensor])
    return array!
  }

  /** Copies several tensors to the host with one wait. */
  async readAll(tensors: readonly Tensor[]): Promise<readonly HostArray[]> {
    this.#faults.check("read")
    const storages = this.#storages(tensors)
    const lengths = tensors.map(({ dtype, size }) => bytesOf(dtype, size))
    const bytes = await readBack(this.device, storages, lengths, (mapped) => this.#settled("read", mapped))
    return tensors.map(({ dtype }, i) => hostArray(dtype, bytes[i]!))
  }

  /** Waits until everything submitted so far has run. Throws what went wrong meanwhile. */
  async sync(): Promise<void> {
    await this.#settled("sync", this.device.queue.onSubmittedWorkDone())
  }

  /** What the GPU's memory is used for, in bytes. */
  memory(): MemoryReport {
    return this.#pool.report()
  }

  /** Overwrites `tensor`'s memory with `data`. Of a bool, what is not 0 is 1. */
  write(tensor: Tensor, data: HostArray): void {
    if (data.length !== tensor.size || dtypeOf(data) !== computeType(tensor.dtype))
      throw new ShapeError("write", `${data.length} × ${dtypeOf(data)} do not fit ${tensor.size} × ${tensor.dtype}`)
    if (isQuantized(tensor.dtype))
      throw new ShapeError("write", `${tensor.dtype} is not made of single numbers: make another tensor`)
    this.#faults.alive("write")
    const [storage] = this.#storages([tensor])
    const values = tensor.dtype === "bool" ? data.map((value) => Number(value !== 0)) : data
    this.device.queue.writeBuffer(storage!.buffer, storage!.offset, storedArray(tensor.dtype, values))
  }

  /** Sets every element of `tensor`'s memory to zero. */
  clear(tensor: Tensor): void {
    this.#faults.alive("clear")
    const [storage] = this.#storages([tensor])
    const encoder = this.device.createCommandEncoder()
    encoder.clearBuffer(storage!.buffer, storage!.offset, storage!.bytes)
    this.device.queue.submit([encoder.finish()])
  }

  /** Adds `value` to `target` where it lies: at once, or, inside a compiled function, in its place in the program. */
  accumulate(target: Tensor, value: Tensor): void {
    if (!sameShape(target.shape, value.shape) || target.dtype !== "f32" || value.dtype !== "f32")
      throw new ShapeError(
        "accumulate",
        `${value.dtype} ${showShape(value.shape)} does not add to ${target.dtype} ${showShape(target.shape)}`,
      )
    this.effect(target.derive({ kind: "accumulate" }, [target, value], target.shape))
  }

  /**
   * Runs an in-place operation for its effect. For the library's own operations. Outside of compiled functions it runs
   * at once: a tensor that depends on what is overwritten and has not been read yet sees the new values.
   */
  effect(tensor: Tensor): void {
    const { node } = tensor.value
    if (this.#trace) {
      this.#trace.effects.push(node)
      return
    }
    this.pin(node.inputs.map((input) => tensor.beside(input)))
    this.#once([], [node], "effect")
  }

  /** A tensor over memory that exists; `from` names the compiled function that returned it. */
  wrap(storage: Storage, shape: Shape, dtype: DType, from?: string): Tensor {
    const node = new Node({ kind: "leaf", from }, [], [{ shape, dtype }])
    node.memory[0] = storage
    this.#watch(node, storage)
    return new Tensor(this, { node, output: 0 })
  }

  /** Fresh memory of `bytes`, contents undefined. */
  allocate(bytes: number, owner: string): Storage {
    return this.#allocate(bytes, owner)
  }

  /** Gives pooled buffers and the workspace back to the driver; live tensors stay. */
  trim(): void {
    this.#workspace.release()
    this.#pool.trim()
  }

  /** Ends the device. Every tensor on it is gone. */
  destroy(): void {
    this.#faults.lose("the device was destroyed: open a new one")
    this.device.destroy()
  }

  /** Awaits an answer of the GPU, and with it what the self-tests of new kernels have to say. */
  #settled<A>(operation: string, answer: Promise<A>): Promise<A> {
    return this.#faults.settled(
      operation,
      settle(Promise.all([answer, this.#kernels.tested()])).then(([value]) => value),
    )
  }

  #allocate(bytes: number, owner: string): Storage {
    this.#faults.alive(owner)
    const padded = Math.max(16, Math.ceil(bytes / 16) * 16)
    return new Storage(this.#pool.acquire(padded, owner), 0, padded, { pool: this.#pool, owner })
  }

  #program(
    outputs: readonly Value[],
    effects: readonly Node[],
    inputs: readonly Node[],
    options: { readonly once: boolean },
  ): Program {
    const context = {
      device: this.device,
      pool: this.#pool,
      pipelines: this.#pipelines,
      workspace: this.#workspace,
    }
    return new Program(context, lower(outputs, effects, inputs, this.traits), options)
  }

  #traced<A>(run: () => A): { readonly result: A; readonly effects: readonly Node[] } {
    if (this.#trace) throw new TensorError("compile", "a compiled function may not be traced inside another")
    const trace: Trace = { effects: [] }
    this.#trace = trace
    try {
      return { result: this.unscoped(run), effects: trace.effects }
    } finally {
      this.#trace = undefined
    }
  }

  #storages(tensors: readonly Tensor[]): readonly Storage[] {
    if (tensors.some(({ gpu }) => gpu !== this)) throw new TensorError("read", "the tensor belongs to another device")
    const pending = tensors.map(({ value }) => value).filter(({ node, output }) => !node.memory[output])
    if (pending.length > 0) {
      if (this.#trace) throw new TensorError("read", "a value is not known yet while a function is being traced")
      this.#once(pending, [], "tensor").forEach((storage, i) => {
        const { node, output } = pending[i]!
        node.memory[output] = storage
        this.#watch(node, storage)
        // Who borrows memory keeps its owner.
        if (endsGradient(node) && !node.borrows) node.forget()
      })
    }
    return tensors.map(({ value }) => {
      const storage = value.node.memory[value.output]!
      if (storage.released) throw new TensorError("read", "the tensor's memory was disposed of")
      return storage
    })
  }

  /** Runs a program that is not kept. */
  #once(outputs: readonly Value[], effects: readonly Node[], owner: string): readonly Storage[] {
    this.#faults.alive(owner)
    const program = this.#program(outputs, effects, [], { once: true })
    try {
      return program.run([], owner)
    } finally {
      program.dispose()
    }
  }

  /** Memory of a forgotten tensor comes back. What several tensors share is the first one's: the others borrow it. */
  #watch(node: Node, storage: Storage): void {
    if (this.#watched.has(storage)) {
      node.borrows = true
      return
    }
    this.#watched.add(storage)
    this.#finalizer.register(node, storage)
    this.#scopes.findLast((scope) => scope.covers(node))?.add(storage)
    this.#leaks?.made(storage)
  }
  readonly #watched = new WeakSet<Storage>()
}
