import type { Contender, Job } from "./contender.ts"
import type { Workload } from "./workloads.ts"

/** Times of one contender on one workload. */
export interface Times {
  readonly contender: string
  /** Milliseconds per run of each round, until the device was done. */
  readonly wall: readonly number[]
  /** Milliseconds of CPU time per run, all threads of the process: what a busy machine distorts least. */
  readonly cpu: readonly number[]
  /** Largest difference from our result, relative to its largest element. */
  readonly difference: number
}

export interface Refused {
  readonly contender: string
  readonly reason: string
}

export interface Measured {
  readonly workload: Workload
  readonly times: readonly Times[]
  readonly refused: readonly Refused[]
}

export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

const cpuTime = (): number => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

/**
 * Runs a workload on every contender, round by round: whatever else the machine does, all see the same of it. There are
 * as many rounds as `seconds` allow, three at least and `rounds` at most. The first contender's result is what the others
 * are compared with.
 */
export const measure = async (
  workload: Workload,
  contenders: readonly Contender[],
  { rounds, seconds }: { readonly rounds: number; readonly seconds: number },
): Promise<Measured> => {
  const jobs: {
    readonly contender: string
    readonly job: Job
    readonly difference: number
    wall: number[]
    cpu: number[]
  }[] = []
  const refused: Refused[] = []
  let expected: ArrayLike<number> | undefined
  for (const { name, prepare } of contenders) {
    try {
      const job = await prepare(workload)
      if (!job) {
        refused.push({ contender: name, reason: "cannot do it" })
        continue
      }
      const result = await job.result()
      expected ??= result
      // Once more, and where that is quick twice: shaders are compiled, and whatever is cached is.
      const before = performance.now()
      await job.run(1)
      if (performance.now() - before < 1000) await job.run(1)
      jobs.push({ contender: name, job, difference: differenceOf(result, expected), wall: [], cpu: [] })
    } catch (error) {
      refused.push({ contender: name, reason: error instanceof Error ? error.message : String(error) })
    }
  }
  const { times } = workload
  const start = performance.now()
  for (let round = 0; round < rounds && (round < 3 || performance.now() - start < seconds * 1000); round++) {
    for (const { job, wall, cpu } of jobs) {
      const [cpuBefore, before] = [cpuTime(), performance.now()]
      await job.run(times)
      wall.push((performance.now() - before) / times)
      cpu.push((cpuTime() - cpuBefore) / times)
    }
  }
  for (const { job } of jobs) job.dispose()
  return {
    workload,
    times: jobs.map(({ contender, wall, cpu, difference }) => ({ contender, wall, cpu, difference })),
    refused,
  }
}

const differenceOf = (result: ArrayLike<number>, expected: ArrayLike<number>): number => {
  if (result.length !== expected.length) return Number.POSITIVE_INFINITY
  let [largest, difference] = [0, 0]
  for (let i = 0; i < expected.length; i++) {
    largest = Math.max(largest, Math.abs(expected[i]!))
    difference = Math.max(difference, Math.abs(result[i]! - expected[i]!))
  }
  return difference / largest
}
