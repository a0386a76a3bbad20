import { Effect, FileSystem, Predicate } from "effect"
import { formatNumber, formatPercent } from "./format.ts"

/** The first and the last value of each metric in a `metrics.jsonl`. */
export const readCourse = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  const text = yield* fs.readFileString(file)
  const course = new Map<string, { readonly first: number; readonly last: number }>()
  for (const line of text.split("\n").filter((part) => part !== "")) {
    const metrics: unknown = JSON.parse(line)
    if (!Predicate.isObject(metrics)) continue
    for (const [name, value] of Object.entries(metrics)) {
      if (typeof value === "number") course.set(name, { first: course.get(name)?.first ?? value, last: value })
    }
  }
  return course
})

/** What a run is judged by, the best measure first. */
const measures: ReadonlyArray<{
  readonly metric: string
  readonly label: string
  readonly format: (value: number) => string
}> = [
  { metric: "eval/accuracy", label: "held-out accuracy", format: formatPercent },
  { metric: "eval/reward", label: "held-out reward", format: formatNumber },
  { metric: "eval/loss", label: "held-out loss", format: formatNumber },
  { metric: "reward", label: "reward", format: formatNumber },
  { metric: "loss", label: "loss", format: formatNumber },
]

/** `held-out accuracy 12.5 % → 71 %`; nothing for a run that measured nothing. */
export const courseLine = (
  course: ReadonlyMap<string, { readonly first: number; readonly last: number }>,
): string | undefined =>
  measures.flatMap(({ format, label, metric }) => {
    const values = course.get(metric)
    // A graded reward never counts as right: its mean says more than an accuracy of zero.
    const isMute = values === undefined || (metric === "eval/accuracy" && values.first === 0 && values.last === 0)
    return isMute ? [] : [`${label} ${format(values.first)} → ${format(values.last)}`]
  })[0]
