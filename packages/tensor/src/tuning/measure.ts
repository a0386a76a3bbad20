import type { Pipelines } from "../device/pipelines.ts"
import {
  problemClasses,
  type Candidate,
  type ProblemClass,
  type Rating,
  type Ratings,
} from "../kernels/matmul/choice.ts"
import type { Problem } from "../kernels/matmul/problem.ts"
import { median, timeLaunches } from "../program/timing.ts"
import { bindLaunch } from "./bind.ts"

export interface MeasureOptions {
  /** Nanoseconds that one sample takes at least, where the largest product allows. */
  readonly sample: number
  /** Samples of which the median counts. */
  readonly rounds: number
  /** Most rows and columns of a product. */
  readonly largest: number
}

/** A second or two on a GPU. On a CPU smaller products fill the device. */
export const measureOptions = (isSoftware: boolean): MeasureOptions => ({
  sample: 2e6,
  rounds: 5,
  largest: isSoftware ? 1024 : 4096,
})

const smallest = 256

/** A candidate so many times slower than another at the same is not measured again: nobody will choose it. */
const hopeless = 4

/** Steps along k: in `nt`, rows that do not lie a power of two apart; in `nt far`, 4 KiB. */
const stepsOf: Readonly<Record<ProblemClass, number>> = { nn: 512, nt: 528, "nt far": 1024, tn: 512 }
const mostSteps = Math.max(...Object.values(stepsOf))

/** One candidate on one class of problem: a single workgroup, or a square product that grows until it takes long enough. */
interface Trial {
  readonly candidate: Candidate
  readonly of: ProblemClass
  readonly together: boolean
  side: number
  /** Launches of one sample. */
  repeats: number
  readonly samples: number[]
}

const problemOf = ({ candidate, of, together, side }: Trial): Problem => ({
  layout: of === "nt far" ? "nt" : of,
  epilogue: "store",
  M: together ? side : candidate.rows,
  N: together ? side : candidate.columns,
  K: stepsOf[of],
})

/** Floating-point operations of whole tiles: that is how `chooseMatmul` counts them. */
const workOf = (trial: Trial): number => {
  const { M, N, K } = problemOf(trial)
  const { rows, columns } = trial.candidate
  return 2 * K * rows * columns * Math.ceil(M / rows) * Math.ceil(N / columns)
}

/**
 * Measures candidates on a device, each against the others in turn, so that what else the machine does slows all alike.
 * The median of several samples counts.
 */
export const measureRatings = async (
  device: GPUDevice,
  candidates: readonly Candidate[],
  pipelines: Pipelines,
  { sample, rounds, largest }: MeasureOptions,
): Promise<Ratings> => {
  using bench = new Bench(device, pipelines, largest)
  const trials = problemClasses.flatMap((of) =>
    candidates.flatMap((candidate) =>
      [false, true].map((together): Trial => ({ candidate, of, together, side: smallest, repeats: 1, samples: [] })),
    ),
  )
  // The first run of a pipeline pays for more than its work.
  await bench.time(trials)
  for (let growing: readonly Trial[] = trials; growing.length > 0;) {
    const times = await bench.time(growing)
    growing = growing.filter((trial, i) => {
      const time = Math.max(1, times[i]!)
      if (trial.together && time < sample && trial.side < largest) {
        trial.side *= 2
        return true
      }
      trial.repeats = Math.max(1, Math.min(1000, Math.round(sample / time)))
      // A clock may be too coarse for less.
      if (time >= sample) trial.samples.push(time)
      return false
    })
  }
  const sampleAll = async (each: readonly Trial[]): Promise<void> => {
    const times = await bench.time(each)
    each.forEach((trial, i) => trial.samples.push(Math.max(1, times[i]!) / trial.repeats))
  }
  await sampleAll(trials)
  // Who is out of the question is judged by its best sample: a busy machine makes one of two long, not both.
  const atBest = (trial: Trial): number => workOf(trial) / Math.min(...trial.samples)
  const contenders = trials.filter((trial) => {
    const rivals = trials.filter(({ of, together }) => of === trial.of && together === trial.together)
    return hopeless * atBest(trial) > Math.max(...rivals.map(atBest))
  })
  for (let round = 1; round < rounds; round++) await sampleAll(contenders)
  const speed = (trial: Trial): number =>
    contenders.includes(trial) ? workOf(trial) / median(trial.samples) : atBest(trial)
  const rating = (of: ProblemClass, candidate: Candidate): Rating => {
    const [alone, together] = trials.filter((trial) => trial.of === of && trial.candidate === candidate).map(speed)
    return { alone: alone!, together: Math.max(alone!, together!) }
  }
  const column = (of: ProblemClass): Readonly<Record<string, Rating>> =>
    Object.fromEntries(candidates.map((candidate) => [candidate.id, rating(of, candidate)]))
  return { nn: column("nn"), nt: column("nt"), "nt far": column("nt far"), tn: column("tn") }
}

/** Operands that all trials share. */
class Bench {
  readonly #device: GPUDevice
  readonly #pipelines: Pipelines
  readonly #operands: readonly GPUBuffer[]

  constructor(device: GPUDevice, pipelines: Pipelines, largest: number) {
    this.#device = device
    this.#pipelines = pipelines
    const count = largest * mostSteps
    // No zeros: how much power multiplications take, and with it how fast they are, depends on their bits.
    const values = Float32Array.from({ length: count }, (_, i) => 0.5 + ((i * 40_503) % 65_536) / 131_072)
    const a = device.createBuffer({ size: 4 * count, usage: 0x0080 | 0x0008 }) // STORAGE | COPY_DST
    const b = device.createBuffer({ size: 4 * count, usage: 0x0080 | 0x0008 })
    for (const buffer of [a, b]) device.queue.writeBuffer(buffer, 0, values)
    const out = device.createBuffer({ size: 4 * largest * largest, usage: 0x0080 })
    this.#operands = [a, b, out]
  }

  /** Nanoseconds of one sample of each trial. */
  async time(trials: readonly Trial[]): Promise<readonly number[]> {
    const bound = trials.map((trial) =>
      bindLaunch(
        this.#device,
        this.#pipelines,
        trial.candidate.launch(problemOf(trial)),
        this.#operands,
        trial.repeats,
      ),
    )
    const launches = bound.map(({ launch }) => launch)
    const { times } = await timeLaunches(this.#device, this.#device.createCommandEncoder(), launches)
    for (const { uniform } of bound) uniform.destroy()
    return times
  }

  [Symbol.dispose](): void {
    for (const buffer of this.#operands) buffer.destroy()
  }
}
