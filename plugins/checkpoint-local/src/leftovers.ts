import { existsSync } from "node:fs"
import { readdir, rename, rm } from "node:fs/promises"
import { join } from "node:path"

/** Names of folders in a store. Only `step-N` is ever read; the others start with a dot. */
export const finalName = (step: number) => `step-${step}`
/** Being written, or being deleted, by process `pid`. */
export const temporaryName = (step: number) => `.step-${step}.${process.pid}.${crypto.randomUUID()}.tmp`
/** On its way out while a new checkpoint of the same step takes its place. */
export const replacedName = (step: number) => `.step-${step}.old`

export const stepOf = (name: string): number | undefined => {
  const digits = /^step-(0|[1-9]\d*)$/.exec(name)?.[1]
  return digits === undefined ? undefined : Number(digits)
}

const isRunning = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch (cause) {
    // EPERM: it runs, but as somebody else.
    return cause instanceof Error && "code" in cause && cause.code === "EPERM"
  }
}

/**
 * Clears away what a crash has left in `directory`: folders half written by processes that are gone, and a replaced
 * checkpoint, which goes back to its place if its successor never arrived. To be called when this process writes none.
 */
export const clearLeftovers = async (directory: string): Promise<void> => {
  for (const name of await readdir(directory)) {
    const temporary = /^\.step-\d+\.(\d+)\..+\.tmp$/.exec(name)?.[1]
    const replaced = /^\.step-(\d+)\.old$/.exec(name)?.[1]
    if (temporary !== undefined) {
      const pid = Number(temporary)
      if (pid === process.pid || !isRunning(pid)) await rm(join(directory, name), { recursive: true, force: true })
    } else if (replaced !== undefined) {
      const home = join(directory, finalName(Number(replaced)))
      if (existsSync(home)) await rm(join(directory, name), { recursive: true, force: true })
      else await rename(join(directory, name), home)
    }
  }
}
