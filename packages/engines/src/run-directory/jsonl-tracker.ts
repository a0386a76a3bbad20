import { Effect, FileSystem, Path } from "effect"
import type { Tracker } from "@rlpt/core"
import { jsonLine, lengthUpTo } from "./json-line.ts"
import { logFile } from "./log-file.ts"

/**
 * `metrics.jsonl` and `timings.jsonl` in `directory`, one object with its `step` a line. The files are apart because
 * metrics repeat byte for byte when a run does, and what a clock measured never does.
 */
export const jsonlTracker = Effect.fnUntraced(function* (directory: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const metrics = logFile(fs, path.join(directory, "metrics.jsonl"))
  const timings = logFile(fs, path.join(directory, "timings.jsonl"))
  const upTo = (step: number) => (bytes: Uint8Array) => lengthUpTo(bytes, step)
  const tracker: Tracker["Service"] = {
    metrics: (step, values) => metrics.append(jsonLine({ step, ...values })),
    timings: (step, values) => timings.append(jsonLine({ step, ...values })),
    samples: () => Effect.void,
    rewind: (step) => Effect.andThen(metrics.truncate(upTo(step)), timings.truncate(upTo(step))),
  }
  return tracker
})
