import { requestGpu, type AdapterInfo, type AdapterKind } from "@rlpt/tensor"

/**
 * Opens Dawn once and shows it to the peers as a browser would: `navigator.gpu`. All contenders then have devices of
 * one adapter in one process.
 */
export const enterBrowser = async (adapter: AdapterKind | "auto"): Promise<AdapterInfo> => {
  const { gpu, info } = await requestGpu({ adapter })
  const navigator = {
    gpu,
    userAgent: "Mozilla/5.0 (X11; Linux x86_64) Chrome/140",
    platform: "Linux x86_64",
    hardwareConcurrency: globalThis.navigator.hardwareConcurrency,
  }
  Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true, writable: true })
  const scope = globalThis as Record<string, unknown>
  scope["window"] ??= globalThis
  scope["self"] ??= globalThis
  copySharedMemory()
  return info
}

/** Dawn's binding refuses views of shared memory, which ONNX Runtime's wasm heap hands to `writeBuffer`: copy those. */
const copySharedMemory = (): void => {
  const write = GPUQueue.prototype.writeBuffer
  GPUQueue.prototype.writeBuffer = function (buffer, offset, data, from, size) {
    const memory = ArrayBuffer.isView(data) ? data.buffer : data
    if (!(memory instanceof SharedArrayBuffer)) {
      if (from === undefined) return write.call(this, buffer, offset, data)
      return size === undefined
        ? write.call(this, buffer, offset, data, from)
        : write.call(this, buffer, offset, data, from, size)
    }
    const unit = ArrayBuffer.isView(data) && "BYTES_PER_ELEMENT" in data ? Number(data.BYTES_PER_ELEMENT) : 1
    const start = (ArrayBuffer.isView(data) ? data.byteOffset : 0) + (from ?? 0) * unit
    const bytes = size === undefined ? data.byteLength - (from ?? 0) * unit : size * unit
    return write.call(this, buffer, offset, new Uint8Array(memory, start, bytes).slice())
  }
}
