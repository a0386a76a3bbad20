import { Gpu } from "./gpu.ts"

const rehearsals = new WeakSet<Gpu>()

/** Whether `gpu` keeps the books and computes nothing. */
export const isRehearsal = (gpu: Gpu): boolean => rehearsals.has(gpu)

/**
 * A device like `gpu` on which a program can be rehearsed: it plans, records and keeps the memory ledger to the byte, but
 * its buffers have no memory, its kernels do not run, and what is read from it is zero. `memoryLimit` is that of
 * `openDevice`.
 */
export const rehearsalOf = (gpu: Gpu, memoryLimit = Number.POSITIVE_INFINITY): Gpu => {
  const { features, limits } = gpu.device
  const rehearsal = new Gpu(idleDevice(features, limits), gpu.adapter, memoryLimit)
  rehearsals.add(rehearsal)
  return rehearsal
}

const nothing = (): void => {}

/** As much of a device as this library asks for. */
const idleDevice = (features: GPUSupportedFeatures, limits: GPUSupportedLimits): GPUDevice => {
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
