import type { AdapterKind } from "../adapter/info.ts"
import { requestGpu } from "../adapter/request.ts"
import { Gpu } from "./gpu.ts"

export interface OpenDeviceOptions {
  /** Which adapter to use. `auto`: a real GPU, else the system's software Vulkan, else the bundled SwiftShader. */
  readonly adapter?: "auto" | AdapterKind
  /** Bytes that tensors and workspace may take together. Default: no limit but the device's. */
  readonly memoryLimit?: number
  /** Remembers where tensors are made, for {@link Gpu.leaks}. Costs a stack trace each. */
  readonly trackLeaks?: boolean
}

/** Opens the device that tensors live on. Throws `AdapterError` when no adapter can be had. */
export const openDevice = async (options: OpenDeviceOptions = {}): Promise<Gpu> => {
  const { adapter, info } = await requestGpu(options.adapter ? { adapter: options.adapter } : {})
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
  return new Gpu(device, info, options)
}
