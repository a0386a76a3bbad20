import { defineTask } from "@rlpt/core"
import { Effect } from "effect"
import { resolve } from "node:path"
import { JsonlOptions } from "./options.ts"
import { readRows } from "./rows.ts"
import { toSplit } from "./split.ts"

/** Rows of a file. Both files are read and checked as a whole at the start, so that no run fails halfway. */
export default defineTask({
  name: "jsonl",
  options: JsonlOptions,
  make: (options, { directory }) => {
    const open = (file: string) => Effect.flatMap(readRows(resolve(directory, file)), (rows) => toSplit(rows, options))
    return Effect.gen(function* () {
      const train = yield* open(options.train)
      if (options.eval === undefined) return { name: "jsonl", train }
      return { name: "jsonl", train, eval: yield* open(options.eval) }
    })
  },
})
