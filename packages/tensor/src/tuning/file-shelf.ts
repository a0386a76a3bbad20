import { randomUUID } from "node:crypto"
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { cacheFolders, isOurs } from "../adapter/cache-folders.ts"
import type { Shelf } from "./shelf.ts"

/** Files in the user's cache folder, or where that cannot be written, in one of the user's own in the temp folder. */
export const fileShelf = (folders: readonly string[] = cacheFolders()): Shelf => ({
  read: async (name) => {
    for (const folder of folders) {
      try {
        const place = join(folder, name)
        if (isTrusted(folder)) return { text: await readFile(place, "utf8"), place }
      } catch {
        // The next folder may have it.
      }
    }
    return undefined
  },
  write: async (name, text) => {
    const problems: string[] = []
    for (const folder of folders) {
      try {
        return await writeWhole(folder, name, text)
      } catch (error) {
        problems.push(error instanceof Error ? error.message : String(error))
      }
    }
    throw new Error(problems.join("; "))
  },
})

/** Windows keeps no such modes: there the folder lies in the user's own. */
const isTrusted = (folder: string): boolean => process.platform === "win32" || isOurs(folder)

/** Written beside and renamed, so that a reader sees all of it or none, whoever else writes. */
const writeWhole = async (folder: string, name: string, text: string): Promise<string> => {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  if (!isTrusted(folder)) throw new Error(`${folder} belongs to, or can be written by, another user`)
  const target = join(folder, name)
  const beside = `${target}.${randomUUID()}`
  try {
    await writeFile(beside, text, { mode: 0o600, flush: true })
    await rename(beside, target)
    return target
  } finally {
    await rm(beside, { force: true })
  }
}
