import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { onTestFinished } from "vitest"
import jsonl from "../src/index.ts"

const folder = (files: Readonly<Record<string, string>>): string => {
  const directory = mkdtempSync(join(tmpdir(), "rlpt-jsonl-"))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content)
  return directory
}

const open = (directory: string, options: unknown) =>
  Effect.scoped(Effect.flatMap(jsonl.configure(options), (make) => make({ directory, runDirectory: "/" })))

const refusal = (directory: string, options: unknown = { train: "t.jsonl" }) =>
  Effect.map(Effect.flip(open(directory, options)), (error) => {
    expect(error).toMatchObject({ _tag: "TaskError" })
    return (error as { message: string }).message.replace(`${directory}/`, "")
  })

const rows = [
  { prompt: "1+1=", completion: "2", answer: 2 },
  { prompt: "2+2=", completion: "4", answer: 4, hint: "☺" },
]

describe("task jsonl", () => {
  it.effect("serves rows of JSONL and of a JSON array alike", () =>
    Effect.gen(function* () {
      const directory = folder({
        "lines.jsonl": `\uFEFF${rows.map((row) => JSON.stringify(row)).join("\r\n\n")}\n`,
        "array.json": JSON.stringify(rows, undefined, 2),
      })
      const task = yield* open(directory, { train: "lines.jsonl", eval: "array.json" })
      for (const split of [task.train, task.eval!]) {
        expect(split.size).toBe(2)
        expect(yield* split.row(0)).toEqual({ prompt: "1+1=", completion: "2", columns: { answer: 2 } })
        expect(yield* split.row(1)).toEqual({ prompt: "2+2=", completion: "4", columns: { answer: 4, hint: "☺" } })
      }
      expect((yield* Effect.flip(task.train.row(2))).message).toBe("there is no row 2: there are 2")
    }),
  )

  it.effect("takes other column names, and rows without a completion", () =>
    Effect.gen(function* () {
      const directory = folder({ "t.jsonl": `{"question":"q","response":"r"}\n{"question":"only"}` })
      const options = { train: "t.jsonl", promptColumn: "question", completionColumn: "response" }
      const { train, eval: heldOut } = yield* open(directory, options)
      expect(yield* train.row(0)).toEqual({ prompt: "q", completion: "r", columns: {} })
      expect(yield* train.row(1)).toEqual({ prompt: "only", columns: {} })
      expect(heldOut).toBeUndefined()
    }),
  )

  it.effect("serves conversations: a prompt of messages, or a whole one up to its first answer", () =>
    Effect.gen(function* () {
      const question = { role: "user", content: "2+2?" }
      const answer = { role: "assistant", content: "4" }
      const system = { role: "system", content: "Be brief." }
      const tools = [{ type: "function" }]
      const lines = [
        { prompt: [question], completion: [answer], tools: JSON.stringify(tools), answer: 4 },
        { messages: [system, question, answer, question, answer], tools },
        { messages: [question], tools: null },
        { prompt: "text", tools: "a column as any other" },
      ]
      const directory = folder({ "t.jsonl": lines.map((line) => JSON.stringify(line)).join("\n") })
      const { train } = yield* open(directory, { train: "t.jsonl" })
      const all = yield* Effect.forEach([0, 1, 2, 3], train.row)
      expect(all).toEqual([
        { prompt: [question], completion: [answer], tools, columns: { answer: 4 } },
        { prompt: [system, question], completion: [answer, question, answer], tools, columns: {} },
        { prompt: [question], columns: {} },
        { prompt: "text", columns: { tools: "a column as any other" } },
      ])
    }),
  )

  it.effect("names what is wrong with a conversation", () =>
    Effect.gen(function* () {
      const at = (row: unknown) => refusal(folder({ "t.jsonl": JSON.stringify(row) }))
      const question = { role: "user", content: "?" }
      expect(yield* at({ prompt: [] })).toBe(
        't.jsonl:1: the column "prompt" must be text or a list of messages, not an empty list',
      )
      expect(yield* at({ prompt: [question, { content: "?" }] })).toBe(
        't.jsonl:1: the column "prompt" must be text or a list of messages, not a list whose item 2 has no "role"',
      )
      expect(yield* at({ prompt: [question], completion: "4" })).toBe(
        't.jsonl:1: the column "completion" must be a list of messages such as [{"role": "user", "content": "…"}], not string',
      )
      expect(yield* at({ prompt: "?", completion: [question] })).toBe(
        't.jsonl:1: the column "completion" must be text, not a list of messages',
      )
      expect(yield* at({ messages: "?" })).toMatch(/^t\.jsonl:1: the column "messages" must be a list of messages/)
      expect(yield* at({ messages: [{ role: "assistant", content: "!" }] })).toBe(
        't.jsonl:1: the column "messages" starts with an answer of the assistant; it needs a question before it',
      )
      expect(yield* at({ prompt: [question], tools: "{" })).toBe(
        't.jsonl:1: the column "tools" must be a list of JSON Schemas of tools, not string',
      )
    }),
  )

  it.effect("names file and line of whatever is wrong", () =>
    Effect.gen(function* () {
      const first = `{"prompt":"p","answer":1}\n\n`
      const at = (text: string, options?: unknown) => refusal(folder({ "t.jsonl": first + text }), options)
      expect(yield* at(`{"prompt": oops}`)).toMatch(/^t\.jsonl:3: not valid JSON: /)
      expect(yield* at(`7`)).toBe(`t.jsonl:3: a row must be a JSON object such as {"prompt": "…"}`)
      expect(yield* at(`{"question":"q","answer":1}`)).toBe(
        `t.jsonl:3: the column "prompt" is missing; the row has "question", "answer"`,
      )
      expect(yield* at(`{"prompt":5}`)).toBe(
        `t.jsonl:3: the column "prompt" must be text or a list of messages, not number`,
      )
      expect(yield* at(`{"prompt":"p","completion":null}`)).toBe(
        `t.jsonl:3: the column "completion" must be text, not null`,
      )
      expect(yield* at(`{"prompt":"p"}`, { train: "t.jsonl", columns: ["answer"] })).toBe(
        `t.jsonl:3: the column "answer" is missing, which options.columns asks for`,
      )
    }),
  )

  it.effect("numbers the rows of an array", () =>
    Effect.gen(function* () {
      expect(yield* refusal(folder({ "t.jsonl": `[{"prompt":"p"},\n{"x":1}]` }))).toMatch(
        /^t\.jsonl, row 2: the column/,
      )
      expect(yield* refusal(folder({ "t.jsonl": `[{"prompt":"p"},` }))).toMatch(/^t\.jsonl: not valid JSON/)
    }),
  )

  it.effect("refuses files that are missing or empty", () =>
    Effect.gen(function* () {
      expect(yield* refusal(folder({}))).toBe("t.jsonl cannot be read: it does not exist")
      expect(yield* refusal(folder({ "t.jsonl": "\n \n" }))).toBe("t.jsonl has no rows")
      expect(yield* refusal(folder({ "t.jsonl": "[]" }))).toBe("t.jsonl has no rows")
    }),
  )
})
