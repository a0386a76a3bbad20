import { ChildProcess } from "node:child_process"
import { defaultServerConditions } from "vite"
import { defineConfig } from "vitest/config"

// Packages export their sources under the `bun` condition; without it vite would look for `dist/`.
const conditions = ["bun", ...defaultServerConditions]

// Vitest's fork pool calls `child.channel.unref()`, which Bun's child processes do not have.
if (process.versions.bun) {
  type Channel = { ref?: () => void; unref?: () => void }
  const proto = ChildProcess.prototype as unknown as { spawn: (...args: unknown[]) => unknown }
  const spawn = proto.spawn
  proto.spawn = function (this: { channel?: Channel }, ...args: unknown[]) {
    const result = spawn.apply(this, args)
    if (this.channel) {
      this.channel.ref ??= () => {}
      this.channel.unref ??= () => {}
    }
    return result
  }
}

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    pool: "forks",
    maxWorkers: 2,
    include: ["test/**/*.test.ts"],
    testTimeout: 240_000,
    hookTimeout: 240_000,
  },
})
