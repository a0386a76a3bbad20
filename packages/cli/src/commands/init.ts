import { Effect, FileSystem, Path } from "effect"
import { Command } from "effect/cli"
import { findConfigFile } from "../config/read.ts"
import { configTemplate } from "../config/template.ts"
import { CliFailure } from "../failure.ts"
import { Screen } from "../view/screen.ts"

export const initCommand = Command.make(
  "init",
  {},
  Effect.fn(function* () {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const screen = yield* Screen
    const directory = path.resolve()
    const existing = yield* findConfigFile(directory)
    if (existing !== undefined) {
      return yield* new CliFailure({ message: `${path.basename(existing)} exists already, and is left as it is` })
    }
    // "wx": a file that appeared in the meantime is not overwritten either.
    yield* fs.writeFileString(path.join(directory, "rlpt.config.ts"), yield* configTemplate, { flag: "wx" })
    yield* screen.print("wrote rlpt.config.ts: change what you like, then run rlpt train")
  }),
).pipe(
  Command.withDescription("Write an rlpt.config.ts that lists and explains every key"),
  Command.withExamples([{ command: "rlpt init", description: "Refuses to overwrite a configuration" }]),
)
