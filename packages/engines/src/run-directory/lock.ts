import { Database } from "bun:sqlite"
import { Effect, type Scope } from "effect"
import { RunDirectoryError } from "./error.ts"

const isBusy = (cause: unknown): boolean => cause instanceof Error && "code" in cause && cause.code === "SQLITE_BUSY"

/**
 * Keeps other processes from writing the run whose lock file is `file`, until the scope closes or the process dies.
 *
 * SQLite is here for its portable file lock alone: unlike a file with a process id, the system drops it at `kill -9`,
 * and no later process can be mistaken for the owner. A file system without locks is not held against the run.
 */
export const lockRun = (file: string, name: string): Effect.Effect<void, RunDirectoryError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.try({
      try: () => {
        const database = new Database(file)
        try {
          database.run("BEGIN EXCLUSIVE")
        } catch (cause) {
          database.close()
          if (isBusy(cause)) throw cause
        }
        return database
      },
      catch: (cause) =>
        new RunDirectoryError({
          message: isBusy(cause)
            ? `run ${name} is being written by another process: wait for it, or end it first`
            : `cannot open ${file}: ${cause instanceof Error ? cause.message : String(cause)}`,
          cause,
        }),
    }),
    (database) => Effect.sync(() => database.close()),
  ).pipe(Effect.asVoid)
