const cell = new Int32Array(new SharedArrayBuffer(4))

/**
 * Awaits the device without burning a core that a software driver needs: Dawn polls without pause while a promise is
 * pending, so we sleep between turns of the event loop. All contenders wait this way; a plain `await` costs them more.
 */
export const settle = async <A>(promise: PromiseLike<A> | A): Promise<A> => {
  if (typeof (promise as PromiseLike<A> | undefined)?.then !== "function") return promise
  let pending = true
  const done = () => {
    pending = false
  }
  ;(promise as PromiseLike<A>).then(done, done)
  while (pending) {
    await new Promise((resolve) => setImmediate(resolve))
    if (pending) Atomics.wait(cell, 0, 0, 0.1)
  }
  return promise
}
