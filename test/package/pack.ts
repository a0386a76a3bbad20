import { execFile } from "node:child_process"
import { mkdirSync, readFileSync, realpathSync, symlinkSync } from "node:fs"
import { dirname, join } from "node:path"
import { promisify } from "node:util"
import type { Manifest } from "../house/packages.ts"

const run = promisify(execFile)

/** Builds the package in `folder` and packs it as it would be published. Resolves with the path of the tarball. */
export const pack = async (folder: string, destination: string): Promise<string> => {
  // Packing runs the script `prepack`, which builds.
  const { stdout } = await run(process.execPath, ["pm", "pack", "--quiet", "--destination", destination], {
    cwd: folder,
  })
  return join(destination, stdout.trim().split("/").at(-1)!)
}

/** package.json as it would be published. */
export const readPacked = async (tarball: string): Promise<Manifest> => {
  const { stdout } = await run("tar", ["-xzOf", tarball, "package/package.json"])
  return JSON.parse(stdout) as Manifest
}

/**
 * Installs a tarball of the package at `folder` in an otherwise empty project, without a network: what it depends on
 * is linked from where it is installed for `folder`. Resolves with its manifest.
 */
export const installTarball = async (tarball: string, folder: string, project: string): Promise<Manifest> => {
  const { name } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Manifest
  const target = join(project, "node_modules", name)
  mkdirSync(target, { recursive: true })
  await run("tar", ["-xzf", tarball, "-C", target, "--strip-components=1"])
  const manifest = JSON.parse(readFileSync(join(target, "package.json"), "utf8")) as Manifest
  for (const other of Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies })) {
    const link = join(project, "node_modules", other)
    mkdirSync(dirname(link), { recursive: true })
    symlinkSync(realpathSync(join(folder, "node_modules", other)), link)
  }
  return manifest
}
