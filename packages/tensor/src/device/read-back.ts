import type { Storage } from "./storage.ts"

/** Copies memory to the host with one wait, which `settled` does: the first `lengths[i]` bytes of each of `storages`. */
export const readBack = async (
  device: GPUDevice,
  storages: readonly Storage[],
  lengths: readonly number[],
  settled: (mapped: Promise<unknown>) => Promise<unknown>,
): Promise<readonly ArrayBuffer[]> => {
  const offsets: number[] = []
  let total = 0
  for (const { bytes } of storages) {
    offsets.push(total)
    total += Math.ceil(bytes / 16) * 16
  }
  const staging = device.createBuffer({ size: Math.max(16, total), usage: 0x0001 | 0x0008 }) // MAP_READ | COPY_DST
  try {
    const encoder = device.createCommandEncoder()
    storages.forEach(({ buffer, offset, bytes }, i) =>
      encoder.copyBufferToBuffer(buffer, offset, staging, offsets[i]!, bytes),
    )
    device.queue.submit([encoder.finish()])
    await settled(staging.mapAsync(1))
    const mapped = staging.getMappedRange()
    return lengths.map((length, i) => mapped.slice(offsets[i]!, offsets[i]! + length))
  } finally {
    staging.destroy()
  }
}
