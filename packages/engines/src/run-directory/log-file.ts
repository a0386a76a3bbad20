import { Effect, type FileSystem, type PlatformError } from "effect"
import { TrackerError } from "@rlpt/core"
import { systemMessage } from "./error.ts"

/** A file that only grows, but for {@link LogFile.truncate}. */
export interface LogFile {
  readonly append: (data: string | Uint8Array) => Effect.Effect<void, TrackerError>
  /** Cuts the file to the length that `keep` finds in its bytes. A missing file stays missing. */
  readonly truncate: (keep: (bytes: Uint8Array) => number) => Effect.Effect<void, TrackerError>
}

export const trackerError =
  (action: string) =>
  (error: PlatformError.PlatformError): TrackerError =>
    new TrackerError({ message: `cannot ${action}: ${systemMessage(error)}`, cause: error })

export const logFile = (fs: FileSystem.FileSystem, path: string): LogFile => ({
  // An interrupt must not leave half a line behind: the checkpoint that follows it counts on whole ones.
  append: (data) =>
    fs
      .writeFile(path, typeof data === "string" ? new TextEncoder().encode(data) : data, { flag: "a" })
      .pipe(Effect.mapError(trackerError(`append to ${path}`)), Effect.uninterruptible),
  truncate: Effect.fnUntraced(
    function* (keep) {
      if (!(yield* fs.exists(path))) return
      const bytes = yield* fs.readFile(path)
      const length = keep(bytes)
      if (length < bytes.length) yield* fs.truncate(path, length)
    },
    Effect.mapError(trackerError(`rewind ${path}`)),
    Effect.uninterruptible,
  ),
})
