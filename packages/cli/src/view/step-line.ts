import type { Metrics, Sample } from "@rlpt/core"
import { formatDuration, formatNumber, formatPercent, oneLine, progressBar, sparkline } from "./format.ts"

/** What is known of a step when its line is written. */
export interface StepFigures {
  readonly step: number
  readonly maxSteps: number
  readonly metrics: Metrics
  readonly timings: Metrics
  /** `reward` (or `loss`, where there is none) of the steps so far. */
  readonly history: ReadonlyArray<number>
  readonly secondsLeft?: number | undefined
}

interface Field {
  readonly label: string
  readonly metric: string
  readonly format: (value: number) => string
}

/** The metrics worth a glance, the most telling first: a narrow terminal loses the last ones. */
const fields: ReadonlyArray<Field> = [
  { label: "reward", metric: "reward", format: formatNumber },
  { label: "loss", metric: "loss", format: formatNumber },
  { label: "accuracy", metric: "eval/accuracy", format: formatPercent },
  { label: "eval reward", metric: "eval/reward", format: formatNumber },
  { label: "eval loss", metric: "eval/loss", format: formatNumber },
  { label: "kl", metric: "kl", format: formatNumber },
  { label: "entropy", metric: "entropy", format: formatNumber },
  { label: "clip", metric: "clip_ratio/region_mean", format: formatPercent },
  { label: "len", metric: "completions/mean_length", format: formatNumber },
]

/** The figure that a run is about: what it learns by. */
export const headline = (metrics: Metrics): number | undefined => metrics["reward"] ?? metrics["loss"]

const metricParts = (metrics: Metrics, spark: string): Array<string> => {
  const shown = fields.flatMap(({ label, metric, format }) => {
    const value = metrics[metric]
    // The loss of a policy gradient says little next to its reward.
    if (value === undefined || (label === "loss" && metrics["reward"] !== undefined)) return []
    return [`${label} ${format(value)}`]
  })
  return shown.map((part, index) => (index === 0 && spark !== "" ? `${part} ${spark}` : part))
}

const gap = "  "

/** The line of one step: `step  40/120  ████░░░░  reward 0.61 ▁▂▃  kl 0.012 …`, without the drawings if `plain`. */
export const stepLine = (figures: StepFigures, plain: boolean): string => {
  const { history, maxSteps, metrics, secondsLeft, step, timings } = figures
  const speed = timings["tokens_per_second"]
  return [
    `step ${String(step).padStart(String(maxSteps).length)}/${maxSteps}`,
    ...(plain ? [] : [progressBar(step / maxSteps, 20)]),
    ...metricParts(metrics, plain ? "" : sparkline(history, 8)),
    ...(speed === undefined ? [] : [`${formatNumber(speed)} tok/s`]),
    ...(secondsLeft === undefined || step === maxSteps ? [] : [`${formatDuration(secondsLeft)} left`]),
  ].join(gap)
}

/** `line` in at most `columns` columns, without the parts that do not fit. */
export const fit = (line: string, columns: number): string => {
  if (line.length <= columns) return line
  const end = line.lastIndexOf(gap, columns)
  return end > 0 ? line.slice(0, end) : line.slice(0, columns)
}

/** One completion: `“3 5 7 → 26 = ?”  →  “3*7+5=26”   reward 1.00   advantage +1.32`. */
export const sampleLine = ({ advantage, completion, prompt, reward }: Sample, columns: number): string => {
  const figures = [
    `reward ${reward === null ? "none" : formatNumber(reward)}`,
    `advantage ${advantage > 0 ? "+" : ""}${formatNumber(advantage)}`,
  ].join("   ")
  const room = Math.max(20, columns - figures.length - 16)
  const question = oneLine(prompt, Math.floor(room / 2))
  return `  “${question}”  →  “${oneLine(completion, room - question.length)}”   ${figures}`
}
