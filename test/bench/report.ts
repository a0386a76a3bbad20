import { cpus } from "node:os"
import type { AdapterInfo } from "@rlpt/tensor"
import type { Contender } from "./contender.ts"
import { median, type Measured } from "./measure.ts"
import type { Peak } from "./peak.ts"

export interface Run {
  readonly measured: readonly Measured[]
  readonly peak: Peak
  readonly adapter: AdapterInfo
  /** Load averages before and after. */
  readonly load: readonly (readonly number[])[]
  readonly contenders: readonly Contender[]
  readonly rounds: number
}

const header = [
  "workload",
  "contender",
  "median ms",
  "best ms",
  "CPU ms",
  "GFLOP/s",
  "of peak",
  "we are faster by",
  "by CPU time",
  "difference",
]

/** Rows of a Markdown table: one per contender and workload; ours tells the lead over the fastest peer. */
export const tableOf = (measured: readonly Measured[], peak: Peak, withHeader = true): string => {
  const rows = measured.flatMap(({ workload, times, refused }) => {
    const [ours, ...peers] = times
    if (!ours) return []
    const rate = (milliseconds: number) => (workload.flops ? workload.flops / milliseconds / 1e6 : 0)
    const lead = (of: "wall" | "cpu", against: readonly (typeof ours)[]) =>
      against.length === 0 ? Number.NaN : Math.min(...against.map((peer) => median(peer[of]))) / median(ours[of])
    return [
      ...times.map((each) => {
        const mine = each === ours
        const flops = rate(median(each.wall))
        const leads = mine
          ? (["wall", "cpu"] as const).map((of) => lead(of, peers))
          : (["wall", "cpu"] as const).map((of) => lead(of, [each]))
        const goal = mine && peers.length > 0 ? ` (goal ${workload.target})` : ""
        return [
          mine ? workload.name : "",
          each.contender,
          median(each.wall).toFixed(2),
          Math.min(...each.wall).toFixed(2),
          median(each.cpu).toFixed(1),
          flops ? flops.toFixed(1) : "–",
          flops
            ? `${((100 * flops) / peak.wall).toFixed(0)} % (CPU ${((100 * rate(median(each.cpu))) / peak.cpu).toFixed(0)} %)`
            : "–",
          Number.isNaN(leads[0]!) ? "–" : mine ? `**${leads[0]!.toFixed(1)}×**${goal}` : `${leads[0]!.toFixed(1)}×`,
          Number.isNaN(leads[1]!) ? "–" : `${leads[1]!.toFixed(1)}×`,
          mine ? "–" : each.difference.toExponential(0),
        ]
      }),
      ...refused.map(({ contender, reason }) => [
        "",
        contender,
        reason.slice(0, 60).replaceAll("|", "/"),
        "",
        "",
        "",
        "",
        "",
        "",
        "",
      ]),
    ]
  })
  const lines = rows.map((row) => `| ${row.join(" | ")} |`)
  if (!withHeader) return lines.join("\n")
  return [`| ${header.join(" | ")} |`, `|${header.map(() => "---|").join("")}`, ...lines].join("\n")
}

const show = (numbers: readonly number[]) => numbers.map((number) => number.toFixed(2)).join(", ")

/** The whole run as Markdown for people and JSON for programs. */
export const report = (run: Run) => {
  const { measured, peak, adapter, load, contenders, rounds } = run
  const runtime = process.versions["bun"] === undefined ? `Node ${process.version}` : `Bun ${process.versions["bun"]}`
  const processor = cpus()[0]?.model.trim() ?? "unknown"
  const markdown = [
    `Adapter: ${adapter.driver || adapter.name} (${adapter.kind}, subgroups of ${adapter.subgroupMinSize}). ${runtime}, ${cpus().length} × ${processor}.`,
    `Peak of the adapter, measured in the same process: ${peak.wall.toFixed(0)} GFLOP/s of multiply-adds (median; ${(peak.cpu * cpus().length).toFixed(0)} by CPU time). A kernel that copies 1024×1024 elements takes ${peak.copy.toFixed(2)} ms.`,
    `Up to ${rounds} alternating rounds; medians; all contenders wait for the device in the same way. Load average before ${show(load[0]!)}, after ${show(load[1]!)}.`,
    `Contenders: ${contenders.map(({ name, version }) => `${name} ${version}`).join(", ")}.`,
    "",
    tableOf(measured, peak),
    "",
  ].join("\n")
  const json = {
    adapter: { kind: adapter.kind, name: adapter.name, driver: adapter.driver, subgroupSize: adapter.subgroupMinSize },
    runtime,
    processor,
    cores: cpus().length,
    load,
    peakGflops: { wall: peak.wall, cpu: peak.cpu },
    copyMs: peak.copy,
    contenders: contenders.map(({ name, version }) => ({ name, version })),
    workloads: measured.map(({ workload, times, refused }) => ({
      name: workload.name,
      flops: workload.flops,
      target: workload.target,
      times: times.map(({ contender, wall, cpu, difference }) => ({
        contender,
        medianMs: median(wall),
        medianCpuMs: median(cpu),
        difference,
        wall,
        cpu,
      })),
      refused,
    })),
  }
  return { markdown, json }
}
