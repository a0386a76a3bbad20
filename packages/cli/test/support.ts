import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, FileSystem, type Path, type Scope } from "effect"

/** Runs `program` in a fresh directory with `files`, on the real file system. The directory is removed afterwards. */
export const withFiles = <A, E>(
  files: Readonly<Record<string, string>>,
  program: (directory: string) => Effect.Effect<A, E, FileSystem.FileSystem | Path.Path | Scope.Scope>,
): Effect.Effect<A, unknown> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const directory = yield* fs.realPath(yield* fs.makeTempDirectoryScoped({ prefix: "rlpt-cli-" }))
    for (const [name, text] of Object.entries(files)) yield* fs.writeFileString(`${directory}/${name}`, text)
    return yield* program(directory)
  }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
