import type { AdapterInfo } from "../adapter/info.ts"
import type { DeviceTraits, Forms } from "../graph/fused-op.ts"
import { candidatesFor, choiceOf, withoutCandidate, type Candidate, type Ratings } from "../kernels/matmul/choice.ts"
import { knownRatings, nominalRatings, panelsFor } from "../kernels/matmul/ratings.ts"
import { numbersOfSubgroups } from "../program/kernel.ts"
import type { WrongKernel } from "./self-test.ts"

/** How fast kernels are on an adapter, and how that came to be known. Speeds decide what runs, never its result. */
export interface Tuning {
  /**
   * `measured` by this process; `remembered` from an earlier measurement; `known` of this kind of software driver;
   * `assumed` of a device that nothing is known of.
   */
  readonly source: "measured" | "remembered" | "known" | "assumed"
  readonly ratings: Ratings
  readonly forms: Forms
  /** Kernels that compute something else than they must here: they are not used. */
  readonly wrong: readonly WrongKernel[]
  /** Where it is remembered, if it is. */
  readonly place?: string
}

/** Lanes of a subgroup where that number is fixed and subgroups are to be had, else 0. */
export const fixedSubgroupSize = (device: GPUDevice, { subgroupMinSize, subgroupMaxSize }: AdapterInfo): number =>
  subgroupMinSize === subgroupMaxSize && device.features.has("subgroups") ? subgroupMinSize : 0

const numbersSubgroups = ({ languageFeatures }: AdapterInfo): boolean => languageFeatures.includes(numbersOfSubgroups)

/** Matrix kernels that may serve a device. */
export const candidatesOf = (device: GPUDevice, adapter: AdapterInfo): readonly Candidate[] =>
  candidatesFor(adapter, fixedSubgroupSize(device, adapter))

/** Processors that a software driver has. */
export const cores = (): number => globalThis.navigator?.hardwareConcurrency ?? 1

/** What is known of a device before anything is measured. */
export const untuned = (adapter: AdapterInfo, candidates: readonly Candidate[]): Tuning => {
  const known = knownRatings(adapter, candidates, cores())
  const ratings = known ?? nominalRatings(candidates)
  return { source: known ? "known" : "assumed", ratings, forms: knownForms(adapter), wrong: [] }
}

/**
 * On a CPU subgroups are the lanes of a core's registers. Those of eight hold a group of a row's blocks; with others, a
 * barrier costs more than reading the row again.
 */
const knownForms = (adapter: AdapterInfo): Forms => {
  const { isSoftware, subgroupMinSize, subgroupMaxSize } = adapter
  if (!isSoftware) return { rows: "held", attention: "workgroup" }
  const lanes = subgroupMinSize === subgroupMaxSize ? subgroupMinSize : 0
  return {
    rows: lanes === 8 && numbersSubgroups(adapter) ? "held" : "walked",
    attention: lanes === 4 || lanes === 8 ? "subgroup" : "invocation",
  }
}

/** What kernels may know of a device. */
export const traitsOf = (
  device: GPUDevice,
  adapter: AdapterInfo,
  candidates: readonly Candidate[],
  { ratings, forms, wrong }: Tuning,
): DeviceTraits => {
  const subgroupSize = fixedSubgroupSize(device, adapter)
  const choice = choiceOf(candidates, ratings, panelsFor(adapter, subgroupSize, ratings))
  return {
    subgroupSize,
    numbersSubgroups: numbersSubgroups(adapter),
    isSoftware: adapter.isSoftware,
    maxStorageBuffers: device.limits.maxStorageBuffersPerShaderStage,
    maxBindingSize: device.limits.maxStorageBufferBindingSize,
    forms,
    matmul: wrong.reduce((left, { candidate }) => withoutCandidate(left, candidate), choice),
  }
}
