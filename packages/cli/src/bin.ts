#!/usr/bin/env bun
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { exitOnSecondInterrupt } from "./interrupt.ts"
import { runCli } from "./main.ts"

exitOnSecondInterrupt(process)
NodeRuntime.runMain(runCli(process.argv.slice(2)), { disableErrorReporting: true })
