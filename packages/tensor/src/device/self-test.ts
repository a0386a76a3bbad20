import { packParams, type Expected, type Kernel, type KernelCheck } from "../program/kernel.ts"

/** A kernel that computes on this adapter something else than it must. */
export interface WrongKernel {
  /** The kernel's name. */
  readonly kernel: string
  /** What is not chosen any more. */
  readonly candidate: string
  /** Where it was found out. */
  readonly reason: string
}

/** A check that runs, or has run, on the GPU. */
interface Pending {
  readonly check: KernelCheck
  readonly staging: GPUBuffer
  readonly buffers: readonly GPUBuffer[]
}

type Rounding = "fused" | "roundedFirst"

const pad = (bytes: number): number => Math.max(16, Math.ceil(bytes / 16) * 16)

/**
 * Holds kernels to what they must compute, at their first use: their check goes to the GPU ahead of what they are needed
 * for, and is read with the next result that anybody awaits, so that it costs no wait of its own.
 */
export class SelfTest {
  readonly #device: GPUDevice
  #pending: Pending[] = []
  /** How the kernels that were checked so far may round what an fma adds. */
  #roundings: readonly Rounding[] = ["fused", "roundedFirst"]

  constructor(device: GPUDevice) {
    this.#device = device
  }

  /** Submits a kernel's check. */
  begin(kernel: Kernel, check: KernelCheck, pipeline: GPUComputePipeline): void {
    const device = this.#device
    const buffers = check.buffers.map(({ before }) => {
      const buffer = device.createBuffer({ size: pad(before.byteLength), usage: 0x0080 | 0x0008 | 0x0004 }) // STORAGE | COPY_DST | COPY_SRC
      device.queue.writeBuffer(buffer, 0, before)
      return buffer
    })
    const bytes = packParams(kernel, check.params)
    const params = device.createBuffer({ size: pad(bytes.byteLength), usage: 0x0040 | 0x0008 }) // UNIFORM | COPY_DST
    device.queue.writeBuffer(params, 0, bytes)
    const entries = [params, ...buffers].map((buffer, binding) => ({ binding, resource: { buffer } }))
    const group = device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: check.params.length > 0 ? entries : entries.slice(1),
    })
    const encoder = device.createCommandEncoder()
    const pass = encoder.beginComputePass()
    pass.setPipeline(pipeline)
    pass.setBindGroup(0, group)
    pass.dispatchWorkgroups(...(check.grid as [number, number, number]))
    pass.end()
    const size = check.buffers.reduce((sum, { after }) => sum + pad(after?.fused.byteLength ?? 0), 0)
    const staging = device.createBuffer({ size, usage: 0x0001 | 0x0008 }) // MAP_READ | COPY_DST
    let end = 0
    check.buffers.forEach(({ after }, i) => {
      if (!after) return
      encoder.copyBufferToBuffer(buffers[i]!, 0, staging, end, pad(after.fused.byteLength))
      end += pad(after.fused.byteLength)
    })
    device.queue.submit([encoder.finish()])
    this.#pending.push({ check, staging, buffers: [params, ...buffers] })
  }

  /** Waits for the checks that were begun, and tells which failed. Rejects if the device gives no answer. */
  async finish(): Promise<readonly WrongKernel[]> {
    const pending = this.#pending
    if (pending.length === 0) return []
    this.#pending = []
    try {
      await Promise.all(pending.map(({ staging }) => staging.mapAsync(1)))
      return pending.flatMap(({ check, staging }) => {
        const reason = this.#judge(check, staging.getMappedRange())
        return reason === undefined ? [] : [{ kernel: check.kernel, candidate: check.candidate, reason }]
      })
    } finally {
      for (const { staging, buffers } of pending) for (const buffer of [staging, ...buffers]) buffer.destroy()
    }
  }

  /** Why what a check wrote is not what it must be, if it is not. */
  #judge({ buffers }: KernelCheck, mapped: ArrayBuffer): string | undefined {
    let start = 0
    const written = buffers.flatMap(({ after }) => {
      if (!after) return []
      const found = new Float32Array(mapped, start, after.fused.length)
      start += pad(after.fused.byteLength)
      return [{ found, after }]
    })
    const reasonFor = (rounding: Rounding): string | undefined =>
      written.reduce<string | undefined>(
        (reason, { found, after }) => reason ?? difference(found, after, rounding),
        undefined,
      )
    const possible = this.#roundings.filter((rounding) => reasonFor(rounding) === undefined)
    if (possible.length === 0) return reasonFor(this.#roundings[0]!)
    this.#roundings = possible
    return undefined
  }
}

/** The first element of what was `found` that is not as expected. */
const difference = (
  found: Float32Array,
  { tolerance, ...results }: Expected,
  rounding: Rounding,
): string | undefined => {
  const values = results[rounding]
  const isRight =
    tolerance === undefined
      ? (value: number, i: number) => Object.is(value, values[i])
      : (value: number, i: number) => Math.abs(value - values[i]!) <= tolerance * (1 + Math.abs(values[i]!))
  for (const [i, value] of found.entries())
    if (!isRight(value, i)) return `element ${i} of a known product is ${value} and must be ${values[i]}`
  return undefined
}
