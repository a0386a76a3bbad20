import { Gpu } from "./gpu.ts"
import type { MemoryReport } from "./pool.ts"

/** Whether `gpu` keeps the books and computes nothing. */
export const isRehearsal = (gpu: Gpu): boolean => gpu.rehearses

export interface RehearsalOptions {
  /** As for `openDevice`. */
  readonly memoryLimit?: number
  /** Bytes of one buffer that a kernel can read or write. Default: those of `gpu`. */
  readonly maxBindingSize?: number | undefined
}

/**
 * A device like `gpu` on which a program can be rehearsed: it plans, records and keeps the memory ledger to the byte, but
 * its buffers have no memory, its kernels do not run, and what is read from it is zero.
 */
export const rehearsalOf = (gpu: Gpu, { memoryLimit, maxBindingSize }: RehearsalOptions = {}): Gpu => {
  const { features, limits } = gpu.device
  const { maxBufferSize, maxStorageBufferBindingSize, maxStorageBuffersPerShaderStage } = limits
  const like = {
    maxBufferSize: Math.max(maxBufferSize, maxBindingSize ?? 0),
    maxStorageBufferBindingSize: maxBindingSize ?? maxStorageBufferBindingSize,
    maxStorageBuffersPerShaderStage,
  }
  const limit = memoryLimit === undefined ? {} : { memoryLimit }
  return new Gpu(idleDevice(features, like), gpu.adapter, { ...limit, tuning: gpu.tuning, rehearses: true })
}

/**
 * The memory that `run` would take of a device like `gpu` that has nothing else in it, to the byte: `peak` is the most at any
 * time. Nothing is allocated and no kernel runs, so what `run` reads is zero. Throws `OutOfMemoryError` beyond a limit.
 */
export const plan = async (
  gpu: Gpu,
  run: (gpu: Gpu) => unknown,
  options: RehearsalOptions = {},
): Promise<MemoryReport> => {
  const rehearsal = rehearsalOf(gpu, options)
  await run(rehearsal)
  return rehearsal.memory()
}

const nothing = (): void => {}

/** As much of a device as this library asks for. */
const idleDevice = (features: GPUSupportedFeatures, limits: Partial<GPUSupportedLimits>): GPUDevice => {
  const pass = { setPipeline: nothing, setBindGroup: nothing, dispatchWorkgroups: nothing, end: nothing }
  const encoder = {
    beginComputePass: () => pass,
    copyBufferToBuffer: nothing,
    clearBuffer: nothing,
    finish: () => ({}),
  }
  const device = {
    features,
    limits,
    queue: { submit: nothing, writeBuffer: nothing, onSubmittedWorkDone: () => Promise.resolve() },
    lost: new Promise(nothing),
    onuncapturederror: null,
    createBuffer: ({ size }: GPUBufferDescriptor) => ({
      size,
      destroy: nothing,
      mapAsync: () => Promise.resolve(),
      getMappedRange: () => new ArrayBuffer(size),
    }),
    createCommandEncoder: () => encoder,
    createShaderModule: () => ({}),
    createPipelineLayout: () => ({}),
    createBindGroupLayout: () => ({}),
    createBindGroup: () => ({}),
    createComputePipeline: () => ({ getBindGroupLayout: () => ({}) }),
    pushErrorScope: nothing,
    popErrorScope: () => Promise.resolve(null),
    destroy: nothing,
  }
  return device as unknown as GPUDevice
}
