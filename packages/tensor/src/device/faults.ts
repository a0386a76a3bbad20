import { DeviceLostError, KernelError, OutOfMemoryError, TensorError, ValidationError } from "../errors.ts"

/** What a device reports by itself, kept until somebody asks whether all is well. */
export class Faults {
  #fault: TensorError | undefined
  #end: { readonly kind: typeof DeviceLostError | typeof KernelError; readonly reason: string } | undefined

  constructor(device: GPUDevice) {
    device.onuncapturederror = ({ error }) => {
      const kind = error.constructor.name === "GPUOutOfMemoryError" ? OutOfMemoryError : ValidationError
      this.report(new kind("gpu", error.message))
    }
    void device.lost.then(({ message }) => this.lose(`the device was lost (${message.trim()}): open a new one`))
  }

  /** Keeps the first fault: others follow from it. */
  report(fault: TensorError): void {
    this.#fault ??= fault
  }

  /** Keeps a fault that tells more than those before it. */
  explain(fault: TensorError): void {
    this.#fault = fault
  }

  /** From now on nothing works any more, for the first reason that is given. */
  lose(reason: string): void {
    this.#end ??= { kind: DeviceLostError, reason }
  }

  /** From now on nothing is believed any more. */
  condemn(reason: string): void {
    this.#end ??= { kind: KernelError, reason }
  }

  /** Throws if the device is gone or cannot be used. */
  alive(operation: string): void {
    if (this.#end) throw new this.#end.kind(operation, this.#end.reason)
  }

  /** Throws if the device is gone, or what it reported since the last check. */
  check(operation: string): void {
    this.alive(operation)
    const fault = this.#fault
    this.#fault = undefined
    if (fault) throw fault
  }

  /** Awaits an answer of the GPU, and throws what went wrong meanwhile. */
  async settled<A>(operation: string, answer: Promise<A>): Promise<A> {
    const value = await answer.catch(async (cause: unknown) => {
      if (cause instanceof TensorError) throw cause
      // The news that the device is gone may come just after the answer that it cannot give.
      await new Promise((resolve) => setTimeout(resolve))
      this.check(operation)
      throw new DeviceLostError(operation, "the GPU gave no answer: open a new device", { cause })
    })
    this.check(operation)
    return value
  }
}
