import { defineCheckpointStore } from "@rlpt/core"
import { Schema } from "effect"
import { join, resolve } from "node:path"
import { localStore } from "./store.ts"

export const LocalOptions = Schema.Struct({
  /**
   * Folder of the `step-N` folders, relative to the configuration file. Default: `checkpoints` in the run's own folder.
   * Runs must not share one: their steps have the same names.
   */
  directory: Schema.optionalKey(Schema.NonEmptyString),
})

/** Keeps checkpoints in a local folder. */
export default defineCheckpointStore({
  name: "local",
  options: LocalOptions,
  make: (options, { directory, runDirectory }) =>
    localStore(
      options.directory === undefined ? join(runDirectory, "checkpoints") : resolve(directory, options.directory),
    ),
})
