import { Schema, type PlatformError } from "effect"

/** A run directory that cannot be made, opened or written. The message names the path and what to do. */
export class RunDirectoryError extends Schema.TaggedError<RunDirectoryError>()("RunDirectoryError", {
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {}

/** What the operating system said, as in "ENOSPC: no space left on device, write". */
export const systemMessage = (error: PlatformError.PlatformError): string =>
  error.cause instanceof Error ? error.cause.message : error.message

/** Turns a file system failure into a {@link RunDirectoryError} that says what was being done. */
export const cannot =
  (action: string) =>
  (error: PlatformError.PlatformError): RunDirectoryError =>
    new RunDirectoryError({ message: `cannot ${action}: ${systemMessage(error)}`, cause: error })
