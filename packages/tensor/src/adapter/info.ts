/** Where an adapter's arithmetic runs: a GPU, Mesa's software Vulkan, or SwiftShader. */
export type AdapterKind = "gpu" | "lavapipe" | "swiftshader"

/** A rung of the ladder that was not taken, and why. */
export interface SkippedAdapter {
  readonly kind: AdapterKind
  readonly reason: string
}

/** What a software driver computes on. */
export interface Processor {
  readonly model: string
  /** Bytes of a core's first cache of instructions, 0 where that is not known. */
  readonly instructionCache: number
}

export interface AdapterInfo {
  readonly kind: AdapterKind
  /** Name of the device, as the driver gives it (`nvidia-h100-pcie`, `llvmpipe-…`). */
  readonly name: string
  readonly vendor: string
  /** Family of GPUs, as WebGPU names it; empty where a browser hides it. */
  readonly architecture: string
  /** Name and version of the driver; empty where a browser hides it. */
  readonly driver: string
  /** Whether a CPU does the work. */
  readonly isSoftware: boolean
  /** The CPU that does, where the system tells. */
  readonly processor?: Processor
  /** Lanes per subgroup, smallest and largest; 0 without the `subgroups` feature. */
  readonly subgroupMinSize: number
  readonly subgroupMaxSize: number
  /** WebGPU features on offer, sorted. */
  readonly features: readonly string[]
  /** What WGSL can say here beyond its core, sorted. */
  readonly languageFeatures: readonly string[]
  /** The kinds of adapter that come before this one and are not to be had here. */
  readonly skipped: readonly SkippedAdapter[]
}

/** The oldest Mesa whose lavapipe Dawn 0.6 accepts: 22.3 lacks features that it requires. */
export const OLDEST_MESA = 25

/** Reads what the driver says about `adapter`, and `gpu` about its language. */
export function describeAdapter(
  gpu: GPU,
  adapter: GPUAdapter,
  skipped: readonly SkippedAdapter[],
  processor?: Processor,
): AdapterInfo {
  const { vendor, architecture, device, description, isFallbackAdapter, subgroupMinSize, subgroupMaxSize } =
    adapter.info
  const text = `${vendor} ${architecture} ${device} ${description}`
  const kind = /swiftshader/i.test(text) ? "swiftshader" : /llvmpipe|lavapipe/i.test(text) ? "lavapipe" : "gpu"
  const isSoftware = kind !== "gpu" || isFallbackAdapter
  return {
    kind,
    name: device.replace(/-+$/, "") || description || architecture || "unnamed",
    vendor,
    architecture,
    driver: description,
    isSoftware,
    ...(isSoftware && processor && { processor }),
    subgroupMinSize: subgroupMinSize ?? 0,
    subgroupMaxSize: subgroupMaxSize ?? 0,
    features: [...adapter.features].sort(),
    languageFeatures: [...gpu.wgslLanguageFeatures].sort(),
    skipped,
  }
}

/** Major version of Mesa in a driver's description, or `undefined` for another driver. */
export function mesaMajor(driver: string): number | undefined {
  const major = /\bMesa (\d+)\./.exec(driver)?.[1]
  return major === undefined ? undefined : Number(major)
}
