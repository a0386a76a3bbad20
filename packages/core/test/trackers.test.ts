import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { combineTrackers, type Tracker } from "../src/index.ts"

it.effect("combineTrackers passes everything on to each tracker, in order", () =>
  Effect.gen(function* () {
    const heard: Array<unknown> = []
    const note = (name: string) => (what: string) => (step: number, content?: unknown) =>
      Effect.sync(() => void heard.push([name, what, step, content]))
    const listener = (name: string): Tracker["Service"] => {
      const hear = note(name)
      return { metrics: hear("metrics"), timings: hear("timings"), samples: hear("samples"), rewind: hear("rewind") }
    }
    const both = combineTrackers([listener("a"), listener("b")])
    yield* both.metrics(1, { reward: 0.5 })
    yield* both.timings(1, { step: 2 })
    yield* both.samples(1, [])
    yield* both.rewind(0)
    expect(heard).toEqual([
      ["a", "metrics", 1, { reward: 0.5 }],
      ["b", "metrics", 1, { reward: 0.5 }],
      ["a", "timings", 1, { step: 2 }],
      ["b", "timings", 1, { step: 2 }],
      ["a", "samples", 1, []],
      ["b", "samples", 1, []],
      ["a", "rewind", 0, undefined],
      ["b", "rewind", 0, undefined],
    ])
  }),
)
