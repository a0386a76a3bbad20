import { create, globals } from "webgpu"
import { AdapterError } from "./error.ts"
import { describeAdapter, mesaMajor, OLDEST_MESA } from "./info.ts"
import type { AdapterInfo, AdapterKind, SkippedAdapter } from "./info.ts"
import { cacheFolders } from "./cache-folders.ts"
import { readProcessor } from "./processor.ts"
import { findSwiftShaderArchive, unpackSwiftShader } from "./swiftshader.ts"
import { fileShelf } from "../tuning/file-shelf.ts"
import type { Shelf } from "../tuning/shelf.ts"
import { DRIVER_VARIABLES, findDriverFiles, nativeProcess, whereDriversAre } from "./vulkan.ts"

/** An entry to WebGPU, and the driver that it found. */
export interface OpenGpu {
  readonly gpu: GPU
  readonly info: AdapterInfo
  /** Where small texts can be kept between processes. */
  readonly shelf: Shelf
}

/** Dawn crashes when the object that `create` returns is collected while anything made from it lives. */
const pinned: GPU[] = ((globalThis as { __rlptGpus?: GPU[] }).__rlptGpus ??= [])

/**
 * Opens Dawn on the first adapter of the ladder (a GPU, lavapipe, SwiftShader), or on the one kind that is wanted.
 * Bun and Node only: this module loads native code. Throws {@link AdapterError}.
 */
export async function openNativeGpu(wanted: AdapterKind | "auto"): Promise<OpenGpu> {
  if (process.platform !== "linux") return await openPlatformGpu(wanted)
  const skipped: SkippedAdapter[] = []
  if (wanted !== "swiftshader") {
    const opened = await openSystemVulkan(wanted, skipped)
    if (opened) return opened
  }
  if (wanted === "swiftshader" || wanted === "auto") {
    const opened = await openSwiftShader(skipped)
    if (opened) return opened
  }
  throw new AdapterError(
    wanted === "auto"
      ? "No WebGPU adapter. Install a Vulkan driver, or the npm package @sparticuz/chromium (a software driver, x64). Tried:"
      : `No WebGPU adapter of kind "${wanted}". Use "auto" to take what there is. Tried:`,
    skipped,
  )
}

/** macOS and Windows bring their own driver (Metal, Direct3D 12). */
async function openPlatformGpu(wanted: AdapterKind | "auto"): Promise<OpenGpu> {
  if (wanted === "auto" || wanted === "gpu") {
    const opened = await open([])
    if (opened && (wanted === "auto" || !opened.info.isSoftware)) return opened
    throw new AdapterError("This system offers no GPU to WebGPU: update its graphics driver.")
  }
  throw new AdapterError(`"${wanted}" exists on Linux only: use "auto" or "gpu".`)
}

/** The drivers that the system has: a GPU, or Mesa's software driver. */
async function openSystemVulkan(
  wanted: "auto" | "gpu" | "lavapipe",
  skipped: SkippedAdapter[],
): Promise<OpenGpu | undefined> {
  const kinds: readonly AdapterKind[] = wanted === "auto" ? ["gpu", "lavapipe"] : [wanted]
  const skipAll = (reason: string) => void skipped.push(...kinds.map((kind) => ({ kind, reason })))

  const installed = findDriverFiles()
  const files = wanted === "lavapipe" ? installed.filter((file) => /lvp|lavapipe/i.test(file)) : installed
  if (files.length === 0) {
    const found = installed.length === 0 ? "no Vulkan driver" : `no lavapipe among ${installed.join(", ")}`
    skipAll(`${found} (looked at ${whereDriversAre()}; on Debian: apt install mesa-vulkan-drivers)`)
    return undefined
  }
  const noLoader = await loadVulkanLoader()
  if (noLoader !== undefined) {
    skipAll(
      `there is a Vulkan driver (${files.join(", ")}) but no loader: ${noLoader} (on Debian: apt install libvulkan1)`,
    )
    return undefined
  }
  const opened = await open(skipped, wanted === "lavapipe" ? files : undefined)
  if (!opened) {
    skipAll(`Dawn accepts none of ${files.join(", ")}; a Mesa older than ${OLDEST_MESA} is too old for it`)
    return undefined
  }
  const { kind, isSoftware, driver } = opened.info
  if (wanted !== "lavapipe" && isSoftware)
    skipped.push({ kind: "gpu", reason: `the system has only a software driver (${driver})` })
  if (wanted === "gpu" && isSoftware) return undefined
  if (wanted === "lavapipe" && kind !== "lavapipe") {
    skipped.push({ kind: "lavapipe", reason: `${files.join(", ")} turned out to be ${driver}` })
    return undefined
  }
  if (kind === "lavapipe" && (mesaMajor(driver) ?? OLDEST_MESA) < OLDEST_MESA) {
    skipped.push({ kind: "lavapipe", reason: `${driver} is too old: Mesa ${OLDEST_MESA} or newer is needed` })
    return undefined
  }
  return opened
}

/** The software driver that npm carries: needs nothing of the system but glibc on x64. */
async function openSwiftShader(skipped: SkippedAdapter[]): Promise<OpenGpu | undefined> {
  const skip = (reason: string) => void skipped.push({ kind: "swiftshader", reason })
  if (process.arch !== "x64")
    return skip(`the npm package @sparticuz/chromium carries it for x64, not for ${process.arch}`)
  const archive = findSwiftShaderArchive()
  if (archive === undefined) return skip("the npm package @sparticuz/chromium is not installed")
  const native = await nativeProcess()
  const problems: string[] = []
  for (const folder of cacheFolders()) {
    try {
      const { loader, driver, icd } = unpackSwiftShader(archive, folder)
      const problem = native.load(driver) ?? native.load(loader)
      if (problem !== undefined) {
        problems.push(problem)
        continue
      }
      const opened = await open(skipped, [icd])
      if (opened) return opened
      problems.push(`Dawn does not accept ${icd}`)
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error))
    }
  }
  return skip(problems.join("; "))
}

/** Loads the system's Vulkan loader, else the one that comes with SwiftShader (GPU containers often lack it). */
async function loadVulkanLoader(): Promise<string | undefined> {
  const native = await nativeProcess()
  const problem = native.load("libvulkan.so.1")
  const archive = problem === undefined ? undefined : findSwiftShaderArchive()
  if (problem === undefined || archive === undefined || process.arch !== "x64") return problem
  for (const folder of cacheFolders()) {
    try {
      if (native.load(unpackSwiftShader(archive, folder).loader) === undefined) return undefined
    } catch {
      // The next folder may be writable.
    }
  }
  return problem
}

/** Dawn rounds the times that it tells to 0.07 ms or so, which hides most kernels. */
const exactTimes = "disable-dawn-features=timestamp_quantization"

/**
 * Asks Dawn for its best adapter, with `drivers` as the only Vulkan drivers if given. The environment names them to the
 * loader and keeps doing so on success, since the loader reads it whenever it likes; on failure it is as before.
 */
async function open(skipped: readonly SkippedAdapter[], drivers?: readonly string[]): Promise<OpenGpu | undefined> {
  const native = drivers && (await nativeProcess())
  const before = DRIVER_VARIABLES.map((name) => [name, process.env[name]] as const)
  for (const name of DRIVER_VARIABLES) native?.setEnv(name, drivers?.join(":"))
  const gpu = create([exactTimes])
  pinned.push(gpu)
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" })
  if (!adapter) {
    for (const [name, value] of before) native?.setEnv(name, value)
    return undefined
  }
  for (const [name, value] of Object.entries(globals)) (globalThis as Record<string, unknown>)[name] ??= value
  return { gpu, info: describeAdapter(gpu, adapter, skipped, readProcessor()), shelf: fileShelf() }
}
