import type { Workload } from "./workloads.ts"

/** A library that takes part. */
export interface Contender {
  readonly name: string
  readonly version: string
  /** Puts the operands of a workload on the device; `undefined` where the library cannot do it. */
  readonly prepare: (workload: Workload) => Promise<Job | undefined>
}

/** One workload on one library, its operands on the device already. */
export interface Job {
  /** Computes so many times, one after the other, and returns when the device is done with all. */
  readonly run: (times: number) => Promise<void>
  /**
   * What a run computes, to see that all compute the same: the result itself, or the loss (before any update) and the
   * gradient of the first weight.
   */
  readonly result: () => Promise<ArrayLike<number>>
  readonly dispose: () => void
}
