import { TaskError, type Split, type TaskRow } from "@rlpt/core"
import { Effect } from "effect"
import { content, tools } from "./chat.ts"
import type { JsonlOptions } from "./options.ts"
import type { Row } from "./rows.ts"

const toTaskRow = Effect.fnUntraced(function* (row: Row, options: JsonlOptions): Effect.fn.Return<TaskRow, TaskError> {
  const { promptColumn, messagesColumn, toolsColumn, columns: required = [] } = options
  const read =
    row.columns[promptColumn] === undefined && row.columns[messagesColumn] !== undefined
      ? yield* conversation(row, options)
      : yield* promptAndCompletion(row, options)
  const missing = required.find((column) => row.columns[column] === undefined)
  if (missing !== undefined) {
    const message = `${row.place}: the column "${missing}" is missing, which options.columns asks for`
    return yield* new TaskError({ message })
  }
  if (typeof read.prompt === "string") return read
  const { [toolsColumn]: described, ...columns } = read.columns
  if (described === undefined || described === null) return { ...read, columns }
  return { ...read, tools: yield* tools(row.place, toolsColumn, described), columns }
})

/** A prompt, and what may come with it: a completion to imitate, or two to compare. */
const promptAndCompletion = Effect.fnUntraced(function* (
  row: Row,
  { promptColumn, completionColumn, chosenColumn, rejectedColumn }: JsonlOptions,
): Effect.fn.Return<TaskRow, TaskError> {
  const prompt = yield* content(row, promptColumn)
  const kind = typeof prompt === "string" ? "text" : "messages"
  const isPair = row.columns[chosenColumn] !== undefined && row.columns[rejectedColumn] !== undefined
  if (isPair) {
    const [chosen, rejected] = [yield* content(row, chosenColumn, kind), yield* content(row, rejectedColumn, kind)]
    const { [promptColumn]: _, [chosenColumn]: __, [rejectedColumn]: ___, ...columns } = row.columns
    return { prompt, chosen, rejected, columns }
  }
  const { [promptColumn]: _, [completionColumn]: completion, ...columns } = row.columns
  if (completion === undefined) return { prompt, columns }
  return { prompt, completion: yield* content(row, completionColumn, kind), columns }
})

/** A conversation up to its first answer, and the rest of it. */
const conversation = Effect.fnUntraced(function* (
  row: Row,
  { messagesColumn }: JsonlOptions,
): Effect.fn.Return<TaskRow, TaskError> {
  const messages = yield* content(row, messagesColumn, "messages")
  const { [messagesColumn]: _, ...columns } = row.columns
  const answer = messages.findIndex(({ role }) => role === "assistant")
  if (answer < 0) return { prompt: messages, columns }
  if (answer === 0) {
    const message = `${row.place}: the column "${messagesColumn}" starts with an answer of the assistant; it needs a question before it`
    return yield* new TaskError({ message })
  }
  return { prompt: messages.slice(0, answer), completion: messages.slice(answer), columns }
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
