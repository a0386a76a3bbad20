import type { Pipelines } from "../device/pipelines.ts"
import { packParams, type Grid, type Kernel } from "../program/kernel.ts"
import type { Launch } from "../program/timing.ts"

/** A launch that has no memory yet. */
export interface UnboundLaunch {
  readonly kernel: Kernel
  readonly params: readonly number[]
  readonly grid: Grid
}

/** A launch on `buffers`, in binding order, so many times in a row, and the buffer of its parameters. */
export const bindLaunch = (
  device: GPUDevice,
  pipelines: Pipelines,
  { kernel, params, grid: [x, y, z] }: UnboundLaunch,
  buffers: readonly GPUBuffer[],
  repeats: number,
): { readonly launch: Launch; readonly uniform: GPUBuffer } => {
  const bytes = packParams(kernel, params)
  const uniform = device.createBuffer({ size: bytes.byteLength, usage: 0x0040 | 0x0008 }) // UNIFORM | COPY_DST
  device.queue.writeBuffer(uniform, 0, bytes)
  const pipeline = pipelines.get(kernel)
  const group = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: [uniform, ...buffers].map((buffer, binding) => ({ binding, resource: { buffer } })),
  })
  const launch: Launch = (pass) => {
    pass.setPipeline(pipeline)
    pass.setBindGroup(0, group)
    for (let i = 0; i < repeats; i++) pass.dispatchWorkgroups(x, y, z)
  }
  return { launch, uniform }
}
