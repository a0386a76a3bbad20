import { TaskError, type ChatMessage, type ChatTools, type Content } from "@rlpt/core"
import { Effect, Predicate } from "effect"
import type { Row } from "./rows.ts"

interface Kinds {
  readonly text: string
  readonly messages: ReadonlyArray<ChatMessage>
  readonly either: Content
}

const expected: Readonly<Record<keyof Kinds, string>> = {
  text: "text",
  messages: 'a list of messages such as [{"role": "user", "content": "…"}]',
  either: "text or a list of messages",
}

/** What a column holds for the model to read. */
export const content = <K extends keyof Kinds = "either">(
  { place, columns }: Row,
  column: string,
  kind?: K,
): Effect.Effect<Kinds[K], TaskError> => {
  const value = columns[column]
  const wanted = kind ?? "either"
  const isContent = isMessages(value) ? wanted !== "text" : typeof value === "string" && wanted !== "messages"
  if (isContent) return Effect.succeed(value as Kinds[K])
  const names = Object.keys(columns).map((name) => `"${name}"`)
  const message =
    value === undefined
      ? `${place}: the column "${column}" is missing; the row has ${names.join(", ") || "no columns"}`
      : `${place}: the column "${column}" must be ${expected[wanted]}, not ${told(value)}`
  return Effect.fail(new TaskError({ message }))
}

/** Tools of a row: a list of their descriptions, or the same as JSON text, as data sets with columns of one type have it. */
export const tools = (place: string, column: string, value: unknown): Effect.Effect<ChatTools, TaskError> => {
  const list = typeof value === "string" ? parsed(value) : value
  if (Array.isArray(list) && list.every((tool) => Predicate.isObject(tool))) return Effect.succeed(list as ChatTools)
  const message = `${place}: the column "${column}" must be a list of JSON Schemas of tools, not ${told(value)}`
  return Effect.fail(new TaskError({ message }))
}

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const isMessages = (value: unknown): value is ReadonlyArray<ChatMessage> =>
  Array.isArray(value) &&
  value.length > 0 &&
  value.every((message) => Predicate.isObject(message) && "role" in message && typeof message.role === "string")

const told = (value: unknown): string => {
  if (value === null) return "null"
  if (!Array.isArray(value)) return typeof value
  if (value.length === 0) return "an empty list"
  const wrong = value.findIndex((message) => !isMessages([message]))
  return wrong < 0 ? "a list of messages" : `a list whose item ${wrong + 1} has no "role"`
}
