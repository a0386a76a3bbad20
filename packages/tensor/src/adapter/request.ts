import { AdapterError } from "./error.ts"
import { describeAdapter } from "./info.ts"
import type { AdapterInfo, AdapterKind } from "./info.ts"
import { browserShelf, type Shelf } from "../tuning/shelf.ts"
import type { OpenGpu } from "./native.ts"

export interface RequestGpuOptions {
  /** Which kind of adapter to take. `"auto"` (the default) takes the first of GPU, lavapipe, SwiftShader that works. */
  readonly adapter?: AdapterKind | "auto"
}

export interface RequestedGpu {
  /** Fresh on each call, since an adapter gives one device only. */
  readonly adapter: GPUAdapter
  readonly info: AdapterInfo
  readonly gpu: GPU
  /** Where small texts can be kept between processes, or visits of a page. */
  readonly shelf: Shelf
}

const CHOICES = ["auto", "gpu", "lavapipe", "swiftshader"] as const

/** One entry to WebGPU per process, also where two copies of this package are loaded. */
const shared = globalThis as { __rlptOpenGpu?: Promise<OpenGpu> | undefined }

/**
 * Finds a WebGPU adapter: the browser's own, or through Dawn (Bun, Node) a GPU if there is one, else Mesa's software
 * Vulkan, else SwiftShader from npm. The environment variable `RLPT_ADAPTER` takes the place of `"auto"`.
 *
 * The first call decides for the whole process; a later call that wants another kind fails.
 * Throws {@link AdapterError}.
 */
export async function requestGpu(options: RequestGpuOptions = {}): Promise<RequestedGpu> {
  const wanted = choose(options.adapter ?? "auto")
  const opening = (shared.__rlptOpenGpu ??= open(wanted))
  const opened = await opening.catch((error: unknown) => {
    if (shared.__rlptOpenGpu === opening) shared.__rlptOpenGpu = undefined
    throw error
  })
  const { gpu, info, shelf } = opened
  if (wanted !== "auto" && wanted !== info.kind) {
    throw new AdapterError(
      `This process works on ${info.name} ("${info.kind}") already and cannot also open "${wanted}": use another process.`,
    )
  }
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" })
  if (!adapter)
    throw new AdapterError(`${info.name} is gone: the driver offers no adapter any more. Start a new process.`)
  return { adapter, info, gpu, shelf }
}

function choose(asked: AdapterKind | "auto"): AdapterKind | "auto" {
  const fromEnvironment = typeof process === "undefined" ? undefined : process.env["RLPT_ADAPTER"]
  const wanted = asked === "auto" ? fromEnvironment || "auto" : asked
  const choice = CHOICES.find((name) => name === wanted)
  if (choice) return choice
  throw new AdapterError(`Unknown adapter "${wanted}": use one of ${CHOICES.join(", ")}.`)
}

async function open(wanted: AdapterKind | "auto"): Promise<OpenGpu> {
  if (typeof navigator !== "undefined" && navigator.gpu) return await openBrowserGpu(navigator.gpu, wanted)
  if (typeof process === "undefined" || process.versions["node"] === undefined) {
    throw new AdapterError(
      "This browser has no WebGPU: use a current one over https or on localhost, with WebGPU enabled.",
    )
  }
  const { openNativeGpu } = await import("#native")
  return await openNativeGpu(wanted)
}

async function openBrowserGpu(gpu: GPU, wanted: AdapterKind | "auto"): Promise<OpenGpu> {
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" })
  if (!adapter)
    throw new AdapterError("The browser offers no WebGPU adapter: enable hardware acceleration in its settings.")
  const info = describeAdapter(gpu, adapter, [])
  if (wanted === "auto" || wanted === info.kind) return { gpu, info, shelf: browserShelf }
  throw new AdapterError(`The browser offers ${info.name} ("${info.kind}"), not "${wanted}": use "auto".`)
}
