import { readFileSync } from "node:fs"
import { cpus } from "node:os"
import type { Processor } from "./info.ts"

/** Where Linux tells what caches a processor has. */
const cachesOfLinux = "/sys/devices/system/cpu/cpu0/cache"

/** Reads what the system says about its processor. Bun and Node only. */
export const readProcessor = (caches = cachesOfLinux): Processor => ({
  model: cpus()[0]?.model.trim() ?? "",
  instructionCache: instructionCache(caches),
})

/** Bytes of a core's first cache of instructions, 0 where nothing says so. */
const instructionCache = (caches: string): number => {
  try {
    for (let index = 0; ; index++) {
      const read = (file: string) => readFileSync(`${caches}/index${index}/${file}`, "utf8").trim()
      if (read("type") === "Instruction") return 1024 * Number.parseInt(read("size"), 10)
    }
  } catch {
    return 0
  }
}
