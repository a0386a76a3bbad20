import { DeviceLostError } from "../errors.ts"

const cell = typeof SharedArrayBuffer === "undefined" ? undefined : new Int32Array(new SharedArrayBuffer(4))
const canSleep = cell !== undefined && typeof process !== "undefined" && process.versions?.node !== undefined

/** Longest wait for work that was submitted; a GPU that is silent for longer has hung. */
const deadline = 10 * 60_000

/**
 * Awaits a promise of the GPU; fails with `DeviceLostError` after ten minutes. On Bun and Node it sleeps between turns of the event loop: Dawn polls without pause
 * while a promise is pending, which takes a core away from a software driver's own threads.
 */
export const settle = async <A>(promise: Promise<A>): Promise<A> => {
  if (!canSleep) return promise
  const end = Date.now() + deadline
  let pending = true
  const done = () => {
    pending = false
  }
  promise.then(done, done)
  for (let milliseconds = 0.05; pending; milliseconds = Math.min(milliseconds * 1.5, 1)) {
    await new Promise((resolve) => setImmediate(resolve))
    if (pending) Atomics.wait(cell!, 0, 0, milliseconds)
    if (pending && Date.now() > end) throw new DeviceLostError("wait", "the GPU has not answered for ten minutes")
  }
  return promise
}
