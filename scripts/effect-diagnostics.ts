// What the Effect language service finds wrong in each package that uses Effect: floating Effects, names of older versions, ...
import { globSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { bun, ROOT } from "./workspace.ts"

let code = 0
for (const manifest of globSync(["packages/*/package.json", "plugins/*/package.json"], { cwd: ROOT }).sort()) {
  const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(ROOT, manifest), "utf8")) as Record<
    string,
    object
  >
  if (!("effect" in { ...dependencies, ...peerDependencies })) continue
  const project = join(ROOT, manifest, "..", "tsconfig.json")
  code = Math.max(
    code,
    await bun("x", "effect-tsgo", "diagnostics", "--project", project, "--format", "text", "--strict"),
  )
}
process.exit(code)
