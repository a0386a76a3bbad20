import { cpus } from "node:os"
import { median } from "../measure.ts"
import type { Contender } from "./contender.ts"
import type { Measured, Times } from "./measure.ts"
import type { Limits } from "./protocol.ts"
import { weightBytes, type ModelWorkload } from "./workloads.ts"

export interface Run {
  readonly measured: readonly Measured[]
  readonly contenders: readonly Contender[]
  readonly limits: Readonly<Record<string, Limits>>
  /** Load averages before and after. */
  readonly load: readonly (readonly number[])[]
}

const header = [
  "workload",
  "contender",
  "tokens/s",
  "best",
  "median ms",
  "CPU ms",
  "GFLOP/s",
  "weights read, GB/s",
  "rlpt's speed",
  "by CPU time",
  "agreement",
]

const perSecond = ({ tokens }: ModelWorkload, milliseconds: number) => (1000 * tokens) / milliseconds

/** How far a result is from ours: the share of equal tokens, or the relative difference of the loss after a step. */
const agreement = ({ work }: ModelWorkload, ours: Times, theirs: Times): string => {
  if (work.kind === "train") {
    const [a, b] = [ours.results[1]![0]!, theirs.results[1]![0]!]
    return `loss after a step ${(Math.abs(a - b) / Math.abs(a)).toExponential(0)}`
  }
  const [a, b] = [ours.results[0]!, theirs.results[0]!]
  return `${a.filter((token, i) => token === b[i]).length} of ${a.length} tokens`
}

const rowsOf = ({ workload, times, refused }: Measured): readonly (readonly string[])[] => {
  const ours = times.find(({ contender }) => contender === "rlpt")
  const rows = times.map((each, i) => {
    const wall = median(each.wall)
    return [
      i === 0 ? workload.name : "",
      each.contender,
      perSecond(workload, wall).toFixed(0),
      perSecond(workload, Math.min(...each.wall)).toFixed(0),
      wall.toFixed(0),
      median(each.cpu).toFixed(0),
      (workload.flops / wall / 1e6).toFixed(1),
      workload.work.kind === "decode" ? ((weightBytes * workload.passes) / wall / 1e6).toFixed(1) : "–",
      !ours || each === ours ? "–" : `${(wall / median(ours.wall)).toFixed(2)}×`,
      !ours || each === ours ? "–" : `${(median(each.cpu) / median(ours.cpu)).toFixed(2)}×`,
      !ours || each === ours ? "–" : agreement(workload, ours, each),
    ]
  })
  return [
    ...rows,
    ...refused.map(({ contender, reason }) => ["", contender, reason.slice(0, 60), ...Array<string>(8).fill("")]),
  ]
}

/** A Markdown table with a row per workload and contender. */
export const tableOf = (measured: readonly Measured[], withHeader = true): string =>
  [...(withHeader ? [header, header.map(() => "---")] : []), ...measured.flatMap(rowsOf)]
    .map((row) => `| ${row.join(" | ")} |`)
    .join("\n")

const show = (numbers: readonly number[]) => numbers.map((number) => number.toFixed(2)).join(", ")

/** The whole run as Markdown for people and JSON for programs. */
export const report = ({ measured, contenders, limits, load }: Run) => {
  const processor = `${cpus().length} × ${cpus()[0]?.model.trim() ?? "unknown"}`
  const known = Object.entries(limits).flatMap(([name, each]) =>
    Object.entries(each).map(([limit, value]) => `${name} ${limit} ${value.toFixed(1)}`),
  )
  const markdown = [
    `${processor}, Bun ${process.versions["bun"]}. ${contenders.map(({ name, version }) => `${name}: ${version}`).join("; ")}.`,
    `Medians of alternating rounds (${measured.map(({ times }) => times[0]?.wall.length ?? 0).join(", ")} per workload). Load average before ${show(load[0]!)}, after ${show(load[1]!)}.`,
    `Limits measured in the same run: ${known.join(", ")}.`,
    "",
    tableOf(measured),
    "",
  ].join("\n")
  const json = {
    processor,
    load,
    limits,
    contenders: contenders.map(({ name, version }) => ({ name, version })),
    workloads: measured.map(({ workload: { work, ...workload }, times, refused }) => ({
      ...workload,
      kind: work.kind,
      times: times.map(({ results: _results, ...each }) => ({
        ...each,
        tokensPerSecond: (1000 * workload.tokens) / median(each.wall),
      })),
      refused,
    })),
  }
  return { markdown, json }
}
