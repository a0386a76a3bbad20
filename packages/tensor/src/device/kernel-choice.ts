import type { AdapterInfo } from "../adapter/info.ts"
import { KernelError } from "../errors.ts"
import type { DeviceTraits } from "../graph/fused-op.ts"
import { plain, withoutCandidate, type Candidate } from "../kernels/matmul/choice.ts"
import type { Kernel } from "../program/kernel.ts"
import type { Faults } from "./faults.ts"
import { SelfTest, type WrongKernel } from "./self-test.ts"
import { candidatesOf, traitsOf, untuned, type Tuning } from "./traits.ts"

export interface KernelChoiceOptions {
  /** Matrix kernels to choose from. Default: those for the adapter's kind. */
  readonly candidates?: readonly Candidate[]
  /** How fast kernels are here. Default: what is known of the adapter's kind. */
  readonly tuning?: Tuning
  /** Hears of kernels that compute something else than they must. The error about them waits until it is done. */
  readonly onWrongKernel?: (wrong: WrongKernel) => Promise<void>
}

/** What a device chooses its kernels by: their speeds, and what their self-tests said. */
export class KernelChoice {
  readonly #adapter: AdapterInfo
  readonly #faults: Faults
  readonly #selfTest: SelfTest
  readonly #onWrongKernel: (wrong: WrongKernel) => Promise<void>
  #tuning: Tuning
  #traits: DeviceTraits
  #version = 0

  constructor(device: GPUDevice, adapter: AdapterInfo, faults: Faults, options: KernelChoiceOptions) {
    const candidates = options.candidates ?? candidatesOf(device, adapter)
    this.#adapter = adapter
    this.#faults = faults
    this.#selfTest = new SelfTest(device)
    this.#onWrongKernel = options.onWrongKernel ?? (() => Promise.resolve())
    this.#tuning = options.tuning ?? untuned(adapter, candidates)
    this.#traits = traitsOf(device, adapter, candidates, this.#tuning)
  }

  get traits(): DeviceTraits {
    return this.#traits
  }

  get tuning(): Tuning {
    return this.#tuning
  }

  /** How often kernels were chosen anew: what was recorded before is stale. */
  get version(): number {
    return this.#version
  }

  /** Begins the self-test of a kernel that is about to be used for the first time. */
  test(kernel: Kernel, pipeline: GPUComputePipeline): void {
    if (kernel.check) this.#selfTest.begin(kernel, kernel.check(), pipeline)
  }

  /** Awaits what the self-tests have to say. What is wrong is reported, and never chosen again. */
  async tested(): Promise<void> {
    for (const wrong of await this.#selfTest.finish()) await this.#drop(wrong)
  }

  async #drop(wrong: WrongKernel): Promise<void> {
    const told = `${wrong.kernel} is wrong on ${this.#adapter.name}: ${wrong.reason}`
    if (wrong.candidate === plain.id)
      return this.#faults.condemn(`${told}. No simpler kernel is left: update the driver, or use another adapter`)
    this.#tuning = { ...this.#tuning, wrong: [...this.#tuning.wrong, wrong] }
    this.#traits = { ...this.#traits, matmul: withoutCandidate(this.#traits.matmul, wrong.candidate) }
    this.#version++
    this.#faults.report(
      new KernelError(wrong.candidate, `${told}. It is not used any more; what it has computed is void: start again`),
    )
    await this.#onWrongKernel(wrong)
  }
}
