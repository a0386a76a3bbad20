// Installs everything and runs `rlpt train` to the end, on whatever adapter there is; needs Bun only.
// Further arguments go to `rlpt train`.
import { bun, install } from "./workspace.ts"

await install()
process.exit(await bun("packages/cli/src/bin.ts", "train", ...process.argv.slice(2)))
