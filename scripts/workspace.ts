import { mkdtempSync, rmSync, symlinkSync } from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"

/** Root of the repository. */
export const ROOT = join(import.meta.dirname, "..")

/**
 * Runs the Bun that runs this script, with `args`, at the root of the repository. Resolves with its exit code.
 * What that starts in turn finds the same Bun as `bun`, also where npx fetched it and nothing is on the PATH.
 */
export async function bun(...args: string[]): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "rlpt-bin-"))
  try {
    symlinkSync(process.execPath, join(folder, "bun"))
    const env = {
      ...process.env,
      TURBO_TELEMETRY_DISABLED: "1",
      PATH: `${folder}${delimiter}${process.env["PATH"] ?? ""}`,
    }
    return await Bun.spawn([process.execPath, ...args], { cwd: ROOT, env, stdio: ["inherit", "inherit", "inherit"] })
      .exited
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Installs what the lockfile names; ends the process when that fails. */
export async function install(): Promise<void> {
  const code = await bun("install", "--frozen-lockfile")
  if (code !== 0) process.exit(code)
}
