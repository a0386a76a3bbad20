import { dirname } from "node:path"

let lent = false

/**
 * Lets a configuration file import `rlpt` where it is not installed, as under `bunx rlpt`, by lending it this copy.
 * A project with its own copy uses that one.
 */
export const lendOurselves = async (file: string): Promise<void> => {
  if (lent || typeof Bun === "undefined" || isInstalled(dirname(file))) return
  lent = true
  const exports = await import("../index.ts")
  Bun.plugin({
    name: "rlpt-config",
    setup: (build) => {
      build.module("rlpt", () => ({ exports, loader: "object" }))
    },
  })
}

const isInstalled = (directory: string): boolean => {
  try {
    Bun.resolveSync("rlpt", directory)
    return true
  } catch {
    return false
  }
}
