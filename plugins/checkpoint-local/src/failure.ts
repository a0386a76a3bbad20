import { CheckpointError } from "@rlpt/core"

const codeOf = (cause: unknown): unknown =>
  typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined

/** Whether the system says that there is no such file or folder. */
export const isMissing = (cause: unknown): boolean => codeOf(cause) === "ENOENT" || codeOf(cause) === "ENOTDIR"

const isFull = (cause: unknown): boolean => codeOf(cause) === "ENOSPC" || codeOf(cause) === "EDQUOT"

/** A `CheckpointError` for what went wrong while `doing`; one that is such an error already stays as it is. */
export const checkpointError =
  (doing: string) =>
  (cause: unknown): CheckpointError => {
    if (cause instanceof CheckpointError) return cause
    if (isFull(cause)) {
      const message = `no space left while ${doing}; free some, earlier checkpoints are untouched`
      return new CheckpointError({ reason: "no-space", message, cause })
    }
    const why = cause instanceof Error ? cause.message : String(cause)
    return new CheckpointError({ reason: "io", message: `failed while ${doing}: ${why}`, cause })
  }
