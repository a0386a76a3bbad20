import { Effect, FileSystem, Path } from "effect"
import { cannot } from "./error.ts"

/**
 * Writes `files` as the directory `target`, replacing what was there. They are written and synced beside it first, so a
 * reader never sees a half-written model, and a full disk leaves the old one as it was.
 */
export const writeModelFiles = Effect.fnUntraced(
  function* (target: string, files: Readonly<Record<string, Uint8Array>>) {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const fresh = `${target}.new`
    const old = `${target}.old`
    yield* fs.remove(fresh, { recursive: true, force: true })
    yield* fs.makeDirectory(fresh, { recursive: true })
    yield* Effect.forEach(Object.entries(files), ([name, bytes]) => writeSynced(path.join(fresh, name), bytes)).pipe(
      Effect.onError(() => Effect.ignore(fs.remove(fresh, { recursive: true, force: true }))),
    )
    // A directory cannot be renamed onto a full one.
    yield* Effect.gen(function* () {
      yield* fs.remove(old, { recursive: true, force: true })
      if (yield* fs.exists(target)) yield* fs.rename(target, old)
      yield* fs.rename(fresh, target)
      yield* fs.remove(old, { recursive: true, force: true })
    }).pipe(Effect.uninterruptible)
  },
  (effect, target) => Effect.mapError(effect, cannot(`write the model to ${target}`)),
)

const writeSynced = (file: string, bytes: Uint8Array) =>
  Effect.scoped(
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const handle = yield* fs.open(file, { flag: "w" })
      yield* handle.writeAll(bytes)
      yield* handle.sync
    }),
  )
