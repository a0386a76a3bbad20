import { TaskError } from "@rlpt/core"
import { Effect, Predicate } from "effect"
import { readFile } from "node:fs/promises"

/** A row and where it stands, such as `train.jsonl:3`: errors start with it. */
export interface Row {
  readonly place: string
  readonly columns: Readonly<Record<string, unknown>>
}

const read = (file: string) =>
  Effect.tryPromise({
    try: () => readFile(file, "utf8"),
    catch: (cause) => {
      const missing = Predicate.hasProperty(cause, "code") && cause.code === "ENOENT"
      const reason = missing ? "it does not exist" : cause instanceof Error ? cause.message : String(cause)
      return new TaskError({ message: `${file} cannot be read: ${reason}`, cause })
    },
  })

const parse = (json: string, place: string) =>
  Effect.try({
    try: (): unknown => JSON.parse(json),
    catch: (cause) =>
      new TaskError({ message: `${place}: not valid JSON: ${cause instanceof Error ? cause.message : cause}`, cause }),
  })

const toRow = (value: unknown, place: string): Effect.Effect<Row, TaskError> =>
  Predicate.isObject(value)
    ? Effect.succeed({ place, columns: value as Row["columns"] })
    : Effect.fail(new TaskError({ message: `${place}: a row must be a JSON object such as {"prompt": "…"}` }))

const noRows = (file: string) => new TaskError({ message: `${file} has no rows` })

/** Rows of a JSONL file (blank lines do not count, but lines are numbered with them) or of a JSON array. */
export const readRows = Effect.fnUntraced(function* (file: string): Effect.fn.Return<ReadonlyArray<Row>, TaskError> {
  const text = (yield* read(file)).replace(/^\uFEFF/, "")
  if (text.trimStart().startsWith("[")) {
    const rows = (yield* parse(text, file)) as ReadonlyArray<unknown>
    if (rows.length === 0) return yield* noRows(file)
    return yield* Effect.forEach(rows, (row, index) => toRow(row, `${file}, row ${index + 1}`))
  }
  const lines = text.split("\n").map((line, index) => ({ line, place: `${file}:${index + 1}` }))
  const filled = lines.filter(({ line }) => line.trim() !== "")
  if (filled.length === 0) return yield* noRows(file)
  return yield* Effect.forEach(filled, ({ line, place }) =>
    Effect.flatMap(parse(line, place), (value) => toRow(value, place)),
  )
})
