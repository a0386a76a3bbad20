import { describe, expect, it } from "@effect/vitest"
import type { Split, TaskRow } from "@rlpt/core"
import { Effect } from "effect"
import arithmetic from "../src/index.ts"

const open = (options?: unknown) =>
  Effect.scoped(Effect.flatMap(arithmetic.configure(options), (make) => make({ directory: "/", runDirectory: "/" })))

const rowsOf = (split: Split, count = split.size) =>
  Effect.forEach(
    Array.from({ length: count }, (_, index) => index),
    split.row,
  )

/** All prompts are text. */
const textOf = ({ prompt }: TaskRow): string => (typeof prompt === "string" ? prompt : "a conversation")

/** The answer, worked out from the prompt's text alone. */
const solve = (row: TaskRow): number => {
  const [, a, operator, b] = /^(\d\d?)([+-])(\d\d?)=$/.exec(textOf(row))!
  return operator === "+" ? Number(a) + Number(b) : Number(a) - Number(b)
}

describe("problems", () => {
  it.effect("are well-formed, never negative and carry their answer", () =>
    Effect.gen(function* () {
      const task = yield* open()
      expect(task.train.size).toBe(65_536)
      for (const row of [...(yield* rowsOf(task.train, 5000)), ...(yield* rowsOf(task.eval!))]) {
        const answer = solve(row)
        expect(answer).toBeGreaterThanOrEqual(0)
        expect(row.columns.answer).toBe(String(answer))
        expect(row.completion).toBe(String(answer))
        expect(row.prompt).toBe(`${row.columns.a}${row.columns.operator}${row.columns.b}=`)
      }
    }),
  )

  it.effect("cover most of what there is, sums and differences of one and two digits", () =>
    Effect.gen(function* () {
      const prompts = (yield* rowsOf((yield* open()).train)).map(textOf)
      expect(new Set(prompts).size).toBeGreaterThan(13_000)
      const shapes = [/^\d\+\d=$/, /^\d\d\+\d\d=$/, /^\d-\d=$/, /^\d\d-\d=$/, /^\d\d-\d\d=$/]
      expect(shapes.filter((shape) => !prompts.some((prompt) => shape.test(prompt)))).toEqual([])
    }),
  )

  it.effect("held out are 256, each once, never trained on in either order, and the same for every seed", () =>
    Effect.gen(function* () {
      const first = yield* open({ seed: 0 })
      const second = yield* open({ seed: 1 })
      const heldOut = yield* rowsOf(first.eval!)
      const prompts = new Set(heldOut.map(textOf))
      expect(prompts.size).toBe(256)
      expect((yield* rowsOf(second.eval!)).map(({ prompt }) => prompt)).toEqual([...prompts])
      const mirrored = heldOut.flatMap(({ columns: { a, b, operator } }) => (operator === "+" ? [`${b}+${a}=`] : []))
      const trained = [...(yield* rowsOf(first.train)), ...(yield* rowsOf(second.train))]
      expect(trained.map(textOf).filter((prompt) => prompts.has(prompt) || mirrored.includes(prompt))).toEqual([])
    }),
  )

  it.effect("are a function of seed and index, whatever was read before", () =>
    Effect.gen(function* () {
      const forward = yield* rowsOf((yield* open({ seed: 5, style: "careless" })).train, 50)
      const again = yield* open({ seed: 5, style: "careless" })
      for (const index of [49, 3, 17, 3]) expect(yield* again.train.row(index)).toEqual(forward[index])
      const other = yield* rowsOf((yield* open({ seed: 6, style: "careless" })).train, 50)
      expect(other).not.toEqual(forward)
      expect((yield* Effect.flip(again.train.row(65_536))).message).toBe("there is no row 65536: there are 65536")
      expect((yield* Effect.flip(again.train.row(-1)))._tag).toBe("TaskError")
    }),
  )
})

describe("the careless pupil", () => {
  const carries = ({ columns: { a, b, operator } }: TaskRow) =>
    operator === "+" ? (Number(a) % 10) + (Number(b) % 10) > 9 : Number(a) % 10 < Number(b) % 10
  const share = <A>(all: ReadonlyArray<A>, holds: (one: A) => boolean) => all.filter(holds).length / all.length
  const isRight = (row: TaskRow) => row.completion === String(solve(row))

  it.effect("is right about one time in three, in training and on held-out problems", () =>
    Effect.gen(function* () {
      const { train, eval: heldOut } = yield* open({ style: "careless" })
      const rows = yield* rowsOf(train)
      expect(share(rows, isRight)).toBeGreaterThan(0.3)
      expect(share(rows, isRight)).toBeLessThan(0.35)
      const tests = yield* rowsOf(heldOut!)
      expect(share(tests, isRight)).toBeGreaterThan(0.22)
      expect(share(tests, isRight)).toBeLessThan(0.44)
      for (const { completion } of rows) expect(completion).toMatch(/^\d{1,3}$/)
    }),
  )

  it.effect("forgets the carry or the borrow more often than not", () =>
    Effect.gen(function* () {
      const rows = (yield* rowsOf((yield* open({ style: "careless" })).train)).filter(carries)
      const forgot = (row: TaskRow) => Number(row.completion) === solve(row) + (row.columns.operator === "+" ? -10 : 10)
      expect(share(rows, forgot)).toBeGreaterThan(0.48)
      expect(share(rows, isRight)).toBeGreaterThan(0.28)
      expect(share(rows, isRight)).toBeLessThan(0.32)
    }),
  )

  it.effect("is no better at its likeliest answers: they are right for 25 to 35 % of problems", () =>
    Effect.gen(function* () {
      // What a perfect imitator can know of the habit is the ones digits and whether there is a carry. Group by those.
      const rows = yield* rowsOf((yield* open({ style: "careless" })).train)
      const groups = Map.groupBy(
        rows,
        ({ columns: { a, b, operator } }) => `${Number(a) % 10}${operator}${Number(b) % 10}`,
      )
      let right = 0
      for (const group of groups.values()) {
        const offsets = Map.groupBy(group, (row) => Number(row.completion) - solve(row))
        const [likeliest] = [...offsets].toSorted(([, x], [, y]) => y.length - x.length)[0]!
        if (likeliest === 0) right += group.length
      }
      expect(groups.size).toBe(200)
      expect(right / rows.length).toBeGreaterThan(0.25)
      expect(right / rows.length).toBeLessThan(0.35)
    }),
  )
})
