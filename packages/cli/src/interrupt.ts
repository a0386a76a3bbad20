/** The part of `process` that this needs. */
export interface Interruptible {
  readonly on: (signal: "SIGINT", listener: () => void) => unknown
  readonly exit: (code: number) => unknown
}

/**
 * Ends the process at the second Ctrl-C. The first one is left to the program, which may take a while: a training run
 * comes to the end of its step and saves.
 */
export const exitOnSecondInterrupt = (process: Interruptible): void => {
  let interruptions = 0
  process.on("SIGINT", () => {
    // 128 + SIGINT, as shells report it.
    if (++interruptions > 1) process.exit(130)
  })
}
