const cell = new Int32Array(new SharedArrayBuffer(4))

/**
 * Awaits the device without burning a core that a software driver needs: Dawn polls without pause while a promise is
 * pending, so we sleep between turns of the event loop, a tenth of the time that has passed and a millisecond at most. What
 * looking costs, and what is lost by looking late, is then the same part of a short wait as of a long one. All contenders
 * wait this way; a plain `await` costs them more.
 */
export const settle = async <A>(promise: PromiseLike<A> | A): Promise<A> => {
  if (typeof (promise as PromiseLike<A> | undefined)?.then !== "function") return promise
  let pending = true
  const done = () => {
    pending = false
  }
  ;(promise as PromiseLike<A>).then(done, done)
  const start = performance.now()
  while (pending) {
    await new Promise((resolve) => setImmediate(resolve))
    const passed = performance.now() - start
    if (pending) Atomics.wait(cell, 0, 0, Math.min(Math.max(passed / 10, 0.05), 1))
  }
  return promise
}
