#!/usr/bin/env bun
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { runCli } from "./main.ts"

// The first Ctrl-C lets a step come to its end, which can take a while. The second one means it.
let interruptions = 0
process.on("SIGINT", () => {
  if (++interruptions > 1) process.exit(130)
})

NodeRuntime.runMain(runCli(process.argv.slice(2)), { disableErrorReporting: true })
