import type { AdapterInfo } from "../adapter/info.ts"
import type { DeviceTraits } from "../graph/fused-op.ts"
import { candidatesFor, choiceOf, type Ratings } from "../kernels/matmul-choice.ts"
import { knownRatings, nominalRatings, turningRate } from "../kernels/matmul-ratings.ts"

/** Lanes of a subgroup where that number is fixed and subgroups are to be had, else 0. */
export const fixedSubgroupSize = (device: GPUDevice, { subgroupMinSize, subgroupMaxSize }: AdapterInfo): number =>
  subgroupMinSize === subgroupMaxSize && device.features.has("subgroups") ? subgroupMinSize : 0

/** What kernels may know of a device. `measured` ratings come from the tuner; without them, what is known of its kind. */
export const traitsOf = (device: GPUDevice, adapter: AdapterInfo, measured?: Ratings): DeviceTraits => {
  const subgroupSize = fixedSubgroupSize(device, adapter)
  const candidates = candidatesFor(adapter, subgroupSize)
  const cores = globalThis.navigator?.hardwareConcurrency ?? 1
  const ratings = measured ?? knownRatings(adapter, candidates, cores) ?? nominalRatings(candidates)
  return {
    subgroupSize,
    isSoftware: adapter.isSoftware,
    maxStorageBuffers: device.limits.maxStorageBuffersPerShaderStage,
    maxBindingSize: device.limits.maxStorageBufferBindingSize,
    matmul: choiceOf(candidates, ratings, turningRate(adapter, cores)),
  }
}
