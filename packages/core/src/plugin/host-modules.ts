import { readdirSync } from "node:fs"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { findPackage } from "./packages.ts"

/** Every specifier that effect's `exports` admits, with the file behind it. */
const effectModules = (directory: string): ReadonlyArray<readonly [specifier: string, file: string]> => {
  const dist = join(directory, "dist")
  return readdirSync(dist, { recursive: true, encoding: "utf8" })
    .map((file) => file.replaceAll("\\", "/"))
    .filter((file) => file.endsWith(".js") && !file.includes("internal/"))
    .map((file) => [`effect/${file.slice(0, -".js".length)}`.replace(/\/index$/, ""), join(dist, file)] as const)
}

let shared = false

/**
 * Lets a lone file import `effect` and `@rlpt/core` where none are installed, by lending it ours: a `./my-reward.ts`
 * in an empty folder just works under `bunx rlpt`. Does nothing where both resolve already, since a project's own
 * copies then are what its types are checked against. Bun only; elsewhere the import itself says what is missing.
 */
export const shareHostModules = async (directory: string): Promise<void> => {
  if (shared || typeof Bun === "undefined") return
  if (findPackage("effect", directory) !== undefined && findPackage("@rlpt/core", directory) !== undefined) return
  const effect = findPackage("effect", import.meta.dirname)
  if (effect === undefined) return
  shared = true
  const core = await import("../index.ts")
  Bun.plugin({
    name: "rlpt-host-modules",
    setup: (build) => {
      build.module("@rlpt/core", () => ({ exports: core, loader: "object" }))
      for (const [specifier, file] of effectModules(effect)) {
        const load = async () => ({ exports: await import(pathToFileURL(file).href), loader: "object" as const })
        build.module(specifier, load)
      }
    },
  })
}
