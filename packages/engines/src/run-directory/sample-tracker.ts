import { Effect, FileSystem, Path } from "effect"
import type { Tracker } from "@rlpt/core"
import { jsonLine } from "./json-line.ts"
import { logFile, trackerError } from "./log-file.ts"

const stepOf = (file: string): number | undefined => {
  const digits = /^step-(\d+)\.jsonl$/.exec(file)?.[1]
  return digits === undefined ? undefined : Number(digits)
}

/** `samples/step-N.jsonl` in `directory`: every completion that was scored at step N, one a line. */
export const sampleTracker = Effect.fnUntraced(function* (directory: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const folder = path.join(directory, "samples")
  const tracker: Tracker["Service"] = {
    metrics: () => Effect.void,
    timings: () => Effect.void,
    samples: Effect.fnUntraced(function* (step, samples) {
      yield* fs
        .makeDirectory(folder, { recursive: true })
        .pipe(Effect.mapError(trackerError(`make the directory ${folder}`)))
      yield* logFile(fs, path.join(folder, `step-${step}.jsonl`)).append(samples.map(jsonLine).join(""))
    }),
    rewind: Effect.fnUntraced(
      function* (step) {
        if (!(yield* fs.exists(folder))) return
        for (const file of yield* fs.readDirectory(folder)) {
          if ((stepOf(file) ?? step) > step) yield* fs.remove(path.join(folder, file))
        }
      },
      Effect.mapError(trackerError(`rewind ${folder}`)),
      Effect.uninterruptible,
    ),
  }
  return tracker
})
