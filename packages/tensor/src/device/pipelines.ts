import { ValidationError } from "../errors.ts"
import { wgsl, type Kernel } from "../program/kernel.ts"

export interface PipelineEvents {
  readonly onError: (error: ValidationError) => void
  readonly onBuilt?: (kernel: Kernel, pipeline: GPUComputePipeline) => void
}

/** Compute pipelines by kernel name, built on first use. */
export class Pipelines {
  readonly #device: GPUDevice
  readonly #built = new Map<string, GPUComputePipeline>()
  readonly #events: PipelineEvents

  constructor(device: GPUDevice, events: PipelineEvents) {
    this.#device = device
    this.#events = events
  }

  get(kernel: Kernel): GPUComputePipeline {
    const known = this.#built.get(kernel.name)
    if (known) return known
    const code = wgsl(kernel)
    const label = (kernel.label ?? kernel.name).slice(0, 80)
    this.#device.pushErrorScope("validation")
    const module = this.#device.createShaderModule({ code, label })
    const layout = this.#device.createPipelineLayout({ bindGroupLayouts: [this.#layout(kernel)] })
    const pipeline = this.#device.createComputePipeline({ layout, compute: { module }, label })
    void this.#device.popErrorScope().then(
      (error) => error && this.#events.onError(new ValidationError(label, `${error.message}\n${code}`)),
      () => {},
    )
    this.#built.set(kernel.name, pipeline)
    this.#events.onBuilt?.(kernel, pipeline)
    return pipeline
  }

  #layout(kernel: Kernel): GPUBindGroupLayout {
    const compute = 0x4
    const parameters: GPUBindGroupLayoutEntry[] =
      Object.keys(kernel.params).length > 0 ? [{ binding: 0, visibility: compute, buffer: { type: "uniform" } }] : []
    return this.#device.createBindGroupLayout({
      entries: [
        ...parameters,
        ...kernel.buffers.map(({ access }, i): GPUBindGroupLayoutEntry => ({
          binding: i + 1,
          visibility: compute,
          buffer: { type: access === "read" ? "read-only-storage" : "storage" },
        })),
      ],
    })
  }
}
