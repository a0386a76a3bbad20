import { median, type LaunchTimes, type TimingMethod } from "../program/timing.ts"

/** What one kernel takes of a call of a compiled function. Times are in milliseconds. */
export interface KernelProfile {
  /** As `explain` names it. */
  readonly name: string
  readonly launches: number
  /** Of all its launches. */
  readonly total: number
  /** Of one launch. */
  readonly median: number
  /** Part of the call's time, 0 to 1. */
  readonly share: number
  /** Of all memory that its launches bind: what it moves if it touches everything once. */
  readonly bytes: number
  /** Floating-point operations, where the program knows them: of matrix products. */
  readonly flops: number | undefined
}

/** Where the time of one call went. `toString()` gives a table. */
export interface Profile {
  /** The slowest in total first. */
  readonly kernels: readonly KernelProfile[]
  readonly launches: number
  /** Milliseconds of all kernels together. */
  readonly total: number
  readonly method: TimingMethod
  readonly toString: () => string
}

/** One launch of a program, as `profile` sees it. */
export interface LaunchWork {
  readonly name: string
  readonly bytes: number
  readonly flops: number | undefined
}

/** Adds up the times of launches by kernel. */
export const profileOf = (launches: readonly LaunchWork[], { method, times }: LaunchTimes): Profile => {
  const total = sum(times)
  const byName = Map.groupBy(
    launches.map((launch, i) => ({ ...launch, time: times[i]! })),
    ({ name }) => name,
  )
  const kernels = [...byName].map(([name, of]): KernelProfile => {
    const own = of.map(({ time }) => time)
    const flops = of.every((launch) => launch.flops !== undefined) ? sum(of.map((launch) => launch.flops!)) : undefined
    return {
      name,
      launches: of.length,
      total: sum(own) / 1e6,
      median: median(own) / 1e6,
      share: total > 0 ? sum(own) / total : 0,
      bytes: sum(of.map(({ bytes }) => bytes)),
      flops,
    }
  })
  const profile = {
    kernels: kernels.sort((a, b) => b.total - a.total),
    launches: launches.length,
    total: total / 1e6,
    method,
  }
  return { ...profile, toString: () => table(profile) }
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0)

/** Characters of a kernel's name that the table has room for. */
const nameWidth = 64

const shorten = (name: string): string => (name.length <= nameWidth ? name : `${name.slice(0, nameWidth - 1)}…`)

const methods: Readonly<Record<TimingMethod, string>> = {
  timestamps: "by the GPU's clock",
  waits: "each launch waited for by itself, less an empty submission",
}

const table = ({ kernels, launches, total, method }: Omit<Profile, "toString">): string => {
  const header = ["kernel", "launches", "ms", "share", "µs each", "GB/s", "GFLOP/s"]
  const perSecond = (count: number | undefined, { total }: KernelProfile): string =>
    count === undefined || total === 0 ? "" : (count / (total * 1e6)).toFixed(1)
  const rows = kernels.map((kernel) => [
    shorten(kernel.name),
    String(kernel.launches),
    kernel.total.toFixed(3),
    `${(100 * kernel.share).toFixed(1)} %`,
    (1000 * kernel.median).toFixed(1),
    perSecond(kernel.bytes, kernel),
    perSecond(kernel.flops, kernel),
  ])
  const widths = header.map((_, column) => Math.max(...[header, ...rows].map((row) => row[column]!.length)))
  const line = (row: readonly string[]): string =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  ")
  const end = `${launches} launches, ${total.toFixed(3)} ms, ${methods[method]}`
  return [header, ...rows].map(line).concat(end).join("\n")
}
