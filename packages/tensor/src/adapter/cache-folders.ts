import { statSync } from "node:fs"
import { homedir, tmpdir } from "node:os"
import { join } from "node:path"

/** The user's folder for what can be made again. */
const userCache = (
  env: Readonly<Record<string, string | undefined>>,
  platform: NodeJS.Platform,
): string | undefined => {
  if (env["XDG_CACHE_HOME"]) return env["XDG_CACHE_HOME"]
  if (platform === "win32") return env["LOCALAPPDATA"]
  const home = env["HOME"] || homedir()
  return home && (platform === "darwin" ? join(home, "Library", "Caches") : join(home, ".cache"))
}

/** Folders that may hold what is kept between processes, best first: the user's cache, then one of the user's own in the temp folder. */
export function cacheFolders(
  env: Readonly<Record<string, string | undefined>> = process.env,
  platform: NodeJS.Platform = process.platform,
): string[] {
  const cache = userCache(env, platform)
  const own = join(tmpdir(), `rlpt-${process.getuid?.() ?? "user"}`)
  return cache ? [join(cache, "rlpt"), own] : [own]
}

/** Whether only this user can have put something into `folder`: what lies there is believed, or loaded as native code. */
export function isOurs(folder: string): boolean {
  const stat = statSync(folder, { throwIfNoEntry: false })
  return stat !== undefined && (stat.mode & 0o022) === 0 && (!process.getuid || stat.uid === process.getuid())
}
