import type { AdapterKind } from "../adapter/info.ts"
import { requestGpu } from "../adapter/request.ts"
import { Tuner, type TunePolicy } from "../tuning/tuner.ts"
import { Gpu } from "./gpu.ts"
import type { WrongKernel } from "./self-test.ts"
import { candidatesOf } from "./traits.ts"

export interface OpenDeviceOptions {
  /** Which adapter to use. `auto`: a real GPU, else the system's software Vulkan, else the bundled SwiftShader. */
  readonly adapter?: "auto" | AdapterKind
  /** Bytes that tensors and workspace may take together. Default: no limit but the device's. */
  readonly memoryLimit?: number
  /**
   * Whether to measure how fast kernels are here. `auto`: once on an adapter of which nothing is known (a GPU: a second or
   * two), remembered in the user's cache folder; `always`: now; `never`: not at all. Results do not depend on it.
   */
  readonly tune?: TunePolicy
  /** Hears what took time and what is wrong with this machine. Default: a warning on the console. */
  readonly notify?: (message: string) => void
  /** Remembers where tensors are made, for {@link Gpu.leaks}. Costs a stack trace each. */
  readonly trackLeaks?: boolean
}

// oxlint-disable-next-line no-console -- said once in the life of an adapter, and `notify` takes its place
const warn = (message: string): void => console.warn(`@rlpt/tensor: ${message}`)

/** Opens the device that tensors live on. Throws `AdapterError` when no adapter can be had, `KernelError` if it cannot compute. */
export const openDevice = async (options: OpenDeviceOptions = {}): Promise<Gpu> => {
  const { adapter, info, shelf } = await requestGpu(options.adapter ? { adapter: options.adapter } : {})
  const { limits } = adapter
  const device = await adapter.requestDevice({
    requiredFeatures: (["subgroups", "timestamp-query"] as const).filter((feature) => adapter.features.has(feature)),
    requiredLimits: {
      maxBufferSize: limits.maxBufferSize,
      maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
      maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
      maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
      maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
    },
  })
  const { tune = "auto", notify = warn } = options
  const candidates = candidatesOf(device, info)
  const tuner = new Tuner(device, info, candidates, shelf, notify)
  const tuning = await tuner.tuning(tune)
  const onWrongKernel = (wrong: WrongKernel) => tuner.found(wrong)
  return new Gpu(device, info, { ...options, candidates, tuning, onWrongKernel })
}
