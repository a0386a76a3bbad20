import type { AdapterInfo } from "../adapter/info.ts"
import { Pipelines } from "../device/pipelines.ts"
import { SelfTest, type WrongKernel } from "../device/self-test.ts"
import { traitsOf, untuned, type Tuning } from "../device/traits.ts"
import { settle } from "../device/wait.ts"
import { DeviceLostError, KernelError, TensorError, type ValidationError } from "../errors.ts"
import { matmulCheck } from "../kernels/matmul/check.ts"
import { plain, type Candidate } from "../kernels/matmul/choice.ts"
import { decidingKernels, measureForms } from "./forms.ts"
import { measureOptions, measureRatings } from "./measure.ts"
import { identityOf, readRecord, writeRecord, type Identity, type Measured, type TuningRecord } from "./record.ts"
import type { Shelf } from "./shelf.ts"

/**
 * When kernels are measured. `auto`: once for each adapter of which nothing is known, which are GPUs; the result is
 * remembered. `always`: now, and remembered. `never`: not at all, and nothing is read or written.
 */
export type TunePolicy = "auto" | "always" | "never"

/** How fast the kernels of matrix products are on a device, and which forms of other kernels are the fastest. */
export const measureKernels = async (
  device: GPUDevice,
  adapter: AdapterInfo,
  candidates: readonly Candidate[],
  pipelines: Pipelines,
): Promise<Measured> => {
  const options = measureOptions(adapter.isSoftware)
  const traits = traitsOf(device, adapter, candidates, untuned(adapter, candidates))
  return {
    ratings: await measureRatings(device, candidates, pipelines, options),
    forms: await measureForms(device, pipelines, traits, options.rounds),
  }
}

/** Finds out how fast kernels are on a device, and remembers it for later processes. */
export class Tuner {
  #record: TuningRecord = { measured: undefined, wrong: [] }
  #remembers = true

  constructor(
    readonly device: GPUDevice,
    readonly adapter: AdapterInfo,
    readonly candidates: readonly Candidate[],
    readonly shelf: Shelf,
    /** Tells people what took time, and what is wrong. */
    readonly notify: (message: string) => void,
    readonly measure: typeof measureKernels = measureKernels,
  ) {}

  /** Throws `KernelError` if no kernel can be trusted here. */
  async tuning(policy: TunePolicy): Promise<Tuning> {
    const { adapter, candidates } = this
    const known = untuned(adapter, candidates)
    this.#remembers = policy !== "never"
    if (!this.#remembers) return known
    const remembered = await this.#recall()
    if (policy === "auto" && remembered.measured) {
      const { measured, ...others } = remembered
      return { source: "remembered", ...measured, ...others }
    }
    if (policy === "auto" && known.source === "known") return { ...known, wrong: remembered.wrong }
    if (adapter.isSoftware) this.notify(`measuring kernels on ${adapter.name}, once: a CPU takes some seconds for it`)
    const start = performance.now()
    const { measured, wrong } = await this.#measure()
    for (const each of wrong) this.#warn(each)
    if (!measured) return { ...known, wrong }
    const seconds = ((performance.now() - start) / 1000).toFixed(1)
    this.#record = { measured, wrong }
    const place = await this.#keep()
    const kept = place === undefined ? "" : `; remembered in ${place}`
    this.notify(`measured kernels on ${adapter.name} in ${seconds} s${kept}`)
    return { source: "measured", ...measured, wrong, ...(place !== undefined && { place }) }
  }

  /** A kernel turned out to be wrong in use: it is remembered, so that no later process chooses it. */
  async found(wrong: WrongKernel): Promise<void> {
    this.#warn(wrong)
    if (!this.#remembers) return
    const { measured, wrong: others } = await this.#recall()
    this.#record = { measured, wrong: [...others, wrong] }
    await this.#keep()
  }

  #warn({ kernel, reason }: WrongKernel): void {
    this.notify(`the kernel "${kernel}" is wrong on ${this.adapter.name} and is not used: ${reason}`)
  }

  /** Names what is measured: a record of anything else does not hold. */
  #identity(): Promise<Identity> {
    const { device, adapter, candidates } = this
    const traits = traitsOf(device, adapter, candidates, untuned(adapter, candidates))
    return identityOf(adapter, candidates, decidingKernels(traits))
  }

  async #recall(): Promise<TuningRecord & { readonly place?: string }> {
    try {
      const identity = await this.#identity()
      const kept = await this.shelf.read(identity.name)
      const record = kept && readRecord(kept.text, identity, this.candidates)
      return record ? { ...record, place: kept.place } : this.#record
    } catch {
      return this.#record
    }
  }

  /** Tells where, or says why it could not be kept: that costs time at the next start, nothing else. */
  async #keep(): Promise<string | undefined> {
    try {
      const identity = await this.#identity()
      return await this.shelf.write(identity.name, writeRecord(identity, this.#record))
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      this.notify(`what was found out about ${this.adapter.name} cannot be remembered: ${reason}`)
      return undefined
    }
  }

  /** Checks every candidate, and measures those that are right. Nothing is measured if the device has no room for that. */
  async #measure(): Promise<TuningRecord> {
    try {
      return await this.#checkAndMeasure()
    } catch (cause) {
      if (cause instanceof TensorError) throw cause
      throw new DeviceLostError("openDevice", `${this.adapter.name} was lost while kernels were measured`, { cause })
    }
  }

  async #checkAndMeasure(): Promise<TuningRecord> {
    const refusals: ValidationError[] = []
    const pipelines = new Pipelines(this.device, { onError: (error) => refusals.push(error) })
    const wrong = await this.#check(pipelines, refusals)
    const found = wrong.find(({ candidate }) => candidate === plain.id)
    if (found)
      throw new KernelError(
        "openDevice",
        `${this.adapter.name} computes wrong products with its simplest kernel (${found.reason}): update its driver, or use another adapter`,
      )
    const right = this.candidates.filter(({ id }) => !wrong.some(({ candidate }) => candidate === id))
    this.device.pushErrorScope("out-of-memory")
    this.device.pushErrorScope("validation")
    const measured = await this.measure(this.device, this.adapter, right, pipelines)
    const errors = await settle(Promise.all([this.device.popErrorScope(), this.device.popErrorScope()]))
    const failure = errors.find((error) => error !== null)
    if (!failure) return { measured, wrong }
    this.notify(`kernels on ${this.adapter.name} could not be measured: ${failure.message.split("\n")[0]}`)
    return { measured: undefined, wrong }
  }

  /** The candidates that are wrong, or that the driver refuses, with the first kernel that shows it. */
  async #check(pipelines: Pipelines, refusals: ValidationError[]): Promise<readonly WrongKernel[]> {
    const selfTest = new SelfTest(this.device)
    const wrong = new Map<string, WrongKernel>()
    // The simplest first: the others are held to how it rounds.
    const ordered = [...this.candidates].sort((a, b) => Number(b === plain) - Number(a === plain))
    for (const candidate of ordered)
      for (const layout of ["nn", "nt", "tn"] as const) {
        if (wrong.has(candidate.id)) continue
        const problem = { layout, epilogue: "store", M: 64, N: 64, K: 64 } as const
        const { kernel } = candidate.launch(problem)
        this.device.pushErrorScope("validation")
        selfTest.begin(kernel, matmulCheck(candidate, problem), pipelines.get(kernel))
        const [error, failed] = await settle(Promise.all([this.device.popErrorScope(), selfTest.finish()]))
        const refusal = refusals.splice(0)[0]?.message ?? error?.message
        const reason = refusal === undefined ? failed[0]?.reason : `the driver refuses it: ${refusal.split("\n")[0]}`
        if (reason !== undefined) wrong.set(candidate.id, { kernel: kernel.name, candidate: candidate.id, reason })
      }
    return [...wrong.values()]
  }
}
