import type { Storage } from "./storage.ts"

/** Tensors made in one place whose memory nobody gave back before they were forgotten. */
export interface Leak {
  /** The innermost lines of the stack outside of this library. */
  readonly site: string
  readonly tensors: number
  readonly bytes: number
}

/** Lines of a stack that tell where in somebody's program a tensor was made. */
const siteLines = 2

/** Lines of this library itself: it lies beside this file. */
const own = import.meta.url.replace(/device\/[^/]*$/, "").replace(/^file:\/\//, "")

const callerOf = (stack: string): string =>
  stack
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line.startsWith("at ") && !line.includes(own))
    .slice(0, siteLines)
    .map((line) => line.slice(3))
    .join(" ← ")

/** Remembers where memory was made, and adds up what was never given back. */
export class LeakTracker {
  readonly #sites = new WeakMap<Storage, string>()
  readonly #leaks = new Map<string, { tensors: number; bytes: number }>()

  made(storage: Storage): void {
    this.#sites.set(storage, new Error("made").stack ?? "")
  }

  /** A storage that its tensor left behind. */
  found(storage: Storage): void {
    const site = callerOf(this.#sites.get(storage) ?? "")
    const { tensors, bytes } = this.#leaks.get(site) ?? { tensors: 0, bytes: 0 }
    this.#leaks.set(site, { tensors: tensors + 1, bytes: bytes + storage.bytes })
  }

  report(): readonly Leak[] {
    return [...this.#leaks].map(([site, sums]) => ({ site, ...sums })).sort((a, b) => b.bytes - a.bytes)
  }
}
