import { TaskError, type Split, type TaskRow } from "@rlpt/core"
import { Effect } from "effect"
import type { JsonlOptions } from "./options.ts"
import type { Row } from "./rows.ts"

const text = ({ place, columns }: Row, column: string): Effect.Effect<string, TaskError> => {
  const value = columns[column]
  if (typeof value === "string") return Effect.succeed(value)
  const names = Object.keys(columns).map((name) => `"${name}"`)
  const message =
    value === undefined
      ? `${place}: the column "${column}" is missing; the row has ${names.join(", ") || "no columns"}`
      : `${place}: the column "${column}" must be text, not ${value === null ? "null" : typeof value}`
  return Effect.fail(new TaskError({ message }))
}

const toTaskRow = Effect.fnUntraced(function* (
  row: Row,
  { promptColumn, completionColumn, columns: required = [] }: JsonlOptions,
): Effect.fn.Return<TaskRow, TaskError> {
  const prompt = yield* text(row, promptColumn)
  const missing = required.find((column) => row.columns[column] === undefined)
  if (missing !== undefined) {
    const message = `${row.place}: the column "${missing}" is missing, which options.columns asks for`
    return yield* new TaskError({ message })
  }
  const { [promptColumn]: _, [completionColumn]: completion, ...columns } = row.columns
  if (completion === undefined) return { prompt, columns }
  return { prompt, completion: yield* text(row, completionColumn), columns }
})

/** Checks every row, then serves them. */
export const toSplit = Effect.fnUntraced(function* (
  rows: ReadonlyArray<Row>,
  options: JsonlOptions,
): Effect.fn.Return<Split, TaskError> {
  const checked = yield* Effect.forEach(rows, (row) => toTaskRow(row, options))
  return {
    size: checked.length,
    row: (index) => {
      const row = checked[index]
      return row === undefined
        ? Effect.fail(new TaskError({ message: `there is no row ${index}: there are ${checked.length}` }))
        : Effect.succeed(row)
    },
  }
})
