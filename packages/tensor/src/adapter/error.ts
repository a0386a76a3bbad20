import type { SkippedAdapter } from "./info.ts"

/** No adapter of the wanted kind can be had, or another kind is open already. The message says what to do. */
export class AdapterError extends Error {
  override readonly name = "AdapterError"
  /** What was tried, and why it did not serve. */
  readonly skipped: readonly SkippedAdapter[]

  constructor(message: string, skipped: readonly SkippedAdapter[] = []) {
    super([message, ...skipped.map(({ kind, reason }) => `  ${kind}: ${reason}`)].join("\n"))
    this.skipped = skipped
  }
}
