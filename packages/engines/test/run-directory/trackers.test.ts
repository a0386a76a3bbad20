import { it } from "@effect/vitest"
import { Effect, FileSystem } from "effect"
import { describe, expect } from "vitest"
import { combineTrackers, type Tracker } from "@rlpt/core"
import { jsonlTracker } from "../../src/run-directory/jsonl-tracker.ts"
import { sampleTracker } from "../../src/run-directory/sample-tracker.ts"
import { inTemporaryDirectory, sample } from "./support.ts"

const read = (file: string) => Effect.flatMap(FileSystem.FileSystem, (fs) => fs.readFileString(file))

/** What a run of `to - from + 1` steps writes. */
const writeSteps = Effect.fnUntraced(function* (tracker: Tracker["Service"], from: number, to: number) {
  for (let step = from; step <= to; step++) {
    yield* tracker.metrics(step, { reward: step / 7, kl: 1 / step })
    yield* tracker.samples(step, [sample(step, 0), sample(step, 1)])
    if (step % 2 === 0) yield* tracker.metrics(step, { "eval/accuracy": step / 10 })
    yield* tracker.timings(step, { tokens_per_second: 100 })
  }
})

const trackersIn = Effect.fnUntraced(function* (directory: string) {
  return combineTrackers([yield* jsonlTracker(directory), yield* sampleTracker(directory)])
})

describe("metrics.jsonl", () => {
  it.effect("has one line for each report, its step first", () =>
    inTemporaryDirectory(
      Effect.fnUntraced(function* (directory) {
        const tracker = yield* jsonlTracker(directory)
        yield* tracker.metrics(0, { "eval/accuracy": 0.25 })
        yield* tracker.metrics(1, { reward: 0.1, kl: 1e-7 })
        expect(yield* read(`${directory}/metrics.jsonl`)).toBe(
          '{"step":0,"eval/accuracy":0.25}\n{"step":1,"reward":0.1,"kl":1e-7}\n',
        )
      }),
    ),
  )

  it.effect("names numbers that JSON lacks", () =>
    inTemporaryDirectory(
      Effect.fnUntraced(function* (directory) {
        const tracker = yield* jsonlTracker(directory)
        yield* tracker.metrics(1, { loss: Number.NaN, grad_norm: Infinity, low: -Infinity })
        expect(yield* read(`${directory}/metrics.jsonl`)).toBe(
          '{"step":1,"loss":"NaN","grad_norm":"Infinity","low":"-Infinity"}\n',
        )
      }),
    ),
  )

  it.effect("keeps clock readings out of the metrics", () =>
    inTemporaryDirectory(
      Effect.fnUntraced(function* (directory) {
        const tracker = yield* jsonlTracker(directory)
        yield* tracker.metrics(1, { reward: 1 })
        yield* tracker.timings(1, { tokens_per_second: 9400 })
        expect(yield* read(`${directory}/metrics.jsonl`)).toBe('{"step":1,"reward":1}\n')
        expect(yield* read(`${directory}/timings.jsonl`)).toBe('{"step":1,"tokens_per_second":9400}\n')
      }),
    ),
  )
})

describe("rewind", () => {
  const files = ["metrics.jsonl", "timings.jsonl", "samples/step-3.jsonl", "samples/step-6.jsonl"]

  it.effect("makes a resumed run write the bytes of an unbroken one", () =>
    inTemporaryDirectory((unbroken) =>
      inTemporaryDirectory(
        Effect.fnUntraced(function* (broken) {
          yield* writeSteps(yield* trackersIn(unbroken), 1, 6)
          yield* writeSteps(yield* trackersIn(broken), 1, 5)
          const resumed = yield* trackersIn(broken)
          yield* resumed.rewind(2)
          yield* writeSteps(resumed, 3, 6)
          for (const file of files) expect(yield* read(`${broken}/${file}`)).toBe(yield* read(`${unbroken}/${file}`))
        }),
      ),
    ),
  )

  it.effect("drops a line that a crash cut short, wherever it was cut", () =>
    inTemporaryDirectory(
      Effect.fnUntraced(function* (directory) {
        const fs = yield* FileSystem.FileSystem
        const whole = '{"step":1,"reward":0.5}\n{"step":2,"reward":0.75}\n'
        const kept = whole.indexOf("\n") + 1
        for (let length = 0; length <= whole.length; length++) {
          yield* fs.writeFileString(`${directory}/metrics.jsonl`, whole.slice(0, length))
          yield* (yield* jsonlTracker(directory)).rewind(2)
          const expected = length === whole.length ? whole : length >= kept ? whole.slice(0, kept) : ""
          expect(yield* read(`${directory}/metrics.jsonl`)).toBe(expected)
        }
      }),
    ),
  )

  it.effect("removes the samples of later steps only", () =>
    inTemporaryDirectory(
      Effect.fnUntraced(function* (directory) {
        const fs = yield* FileSystem.FileSystem
        const tracker = yield* trackersIn(directory)
        yield* writeSteps(tracker, 9, 11)
        yield* fs.writeFileString(`${directory}/samples/notes.txt`, "mine")
        yield* tracker.rewind(9)
        expect((yield* fs.readDirectory(`${directory}/samples`)).sort()).toEqual(["notes.txt", "step-9.jsonl"])
      }),
    ),
  )

  it.effect("does nothing to a run that has written nothing", () =>
    inTemporaryDirectory(
      Effect.fnUntraced(function* (directory) {
        const fs = yield* FileSystem.FileSystem
        yield* (yield* trackersIn(directory)).rewind(5)
        expect(yield* fs.readDirectory(directory)).toEqual([])
      }),
    ),
  )
})

describe("a file that cannot be written", () => {
  it.effect("fails with its name and the cause", () =>
    inTemporaryDirectory(
      Effect.fnUntraced(function* (directory) {
        const fs = yield* FileSystem.FileSystem
        yield* fs.makeDirectory(`${directory}/metrics.jsonl`)
        const error = yield* Effect.flip((yield* jsonlTracker(directory)).metrics(1, { reward: 1 }))
        expect(error._tag).toBe("TrackerError")
        expect(error.message).toContain(`cannot append to ${directory}/metrics.jsonl: EISDIR`)
      }),
    ),
  )
})
