import { it } from "@effect/vitest"
import { Effect } from "effect"
import { describe, expect, test } from "vitest"
import { courseLine, readCourse } from "../../src/view/summary.ts"
import { withFiles } from "../support.ts"

it.effect("the course of a run is the first and last value of each metric, whatever step had it", () =>
  withFiles(
    {
      "metrics.jsonl":
        '{"step":0,"eval/accuracy":0.125}\n{"step":1,"loss":"NaN"}\n{"step":2,"loss":2,"eval/accuracy":0.71}\n',
    },
    Effect.fnUntraced(function* (directory) {
      const course = yield* readCourse(`${directory}/metrics.jsonl`)
      expect(course.get("eval/accuracy")).toEqual({ first: 0.125, last: 0.71 })
      expect(course.get("loss")).toEqual({ first: 2, last: 2 })
      expect(courseLine(course)).toBe("held-out accuracy 12.5 % → 71 %")
    }),
  ),
)

describe("a run is judged by", () => {
  const line = (metrics: Readonly<Record<string, readonly [number, number]>>) =>
    courseLine(new Map(Object.entries(metrics).map(([name, [first, last]]) => [name, { first, last }])))

  test("its held-out reward when nothing is right or wrong", () =>
    expect(line({ "eval/accuracy": [0, 0], "eval/reward": [0.38, 0.6] })).toBe("held-out reward 0.38 → 0.60"))
  test("its reward when nothing is held out", () =>
    expect(line({ loss: [1, 2], reward: [0.1, 0.9] })).toBe("reward 0.10 → 0.90"))
  test("its loss when there is no reward", () => expect(line({ loss: [2, 1] })).toBe("loss 2.00 → 1.00"))
  test("nothing when it measured nothing", () => expect(line({})).toBeUndefined())
})
