import { settle } from "../device/wait.ts"

/** Encodes one launch. */
export type Launch = (pass: GPUComputePassEncoder) => void

/**
 * How launches were timed: by the GPU's own clock, or, where it has none to read, each submitted and waited for by itself,
 * less what an empty submission takes.
 */
export type TimingMethod = "timestamps" | "waits"

export interface LaunchTimes {
  readonly method: TimingMethod
  /** Nanoseconds of each launch. */
  readonly times: readonly number[]
}

/** WebGPU's limit on one query set. */
const queriesPerSet = 4096
const bytesPerQuery = 8

/** Times compute passes by the GPU's clock. Needs the feature `timestamp-query`. */
export class Stopwatch {
  readonly #sets: readonly GPUQuerySet[]
  readonly #resolved: GPUBuffer
  readonly #staging: GPUBuffer
  readonly #bytes: number

  constructor(device: GPUDevice, passes: number) {
    const queries = 2 * passes
    this.#bytes = Math.max(1, queries) * bytesPerQuery
    this.#sets = Array.from({ length: Math.ceil(queries / queriesPerSet) }, (_, i) =>
      device.createQuerySet({ type: "timestamp", count: Math.min(queriesPerSet, queries - i * queriesPerSet) }),
    )
    this.#resolved = device.createBuffer({ size: this.#bytes, usage: 0x0200 | 0x0004 }) // QUERY_RESOLVE | COPY_SRC
    this.#staging = device.createBuffer({ size: this.#bytes, usage: 0x0001 | 0x0008 }) // MAP_READ | COPY_DST
  }

  /** For the descriptor of pass number `pass`. */
  writes(pass: number): GPUComputePassTimestampWrites {
    const first = (2 * pass) % queriesPerSet
    const querySet = this.#sets[Math.floor((2 * pass) / queriesPerSet)]!
    return { querySet, beginningOfPassWriteIndex: first, endOfPassWriteIndex: first + 1 }
  }

  /** To be encoded after the passes. */
  resolve(encoder: GPUCommandEncoder): void {
    this.#sets.forEach((set, i) =>
      encoder.resolveQuerySet(set, 0, set.count, this.#resolved, i * queriesPerSet * bytesPerQuery),
    )
    encoder.copyBufferToBuffer(this.#resolved, 0, this.#staging, 0, this.#bytes)
  }

  /** Nanoseconds of each pass, after what {@link resolve} was encoded in has been submitted. */
  async read(): Promise<readonly number[]> {
    await settle(this.#staging.mapAsync(1))
    const ticks = new BigUint64Array(this.#staging.getMappedRange().slice(0))
    this.#staging.unmap()
    // A clock that is set back between two readings makes a difference that means nothing.
    return Array.from({ length: Math.floor(ticks.length / 2) }, (_, i) =>
      Math.max(0, Number(BigInt.asIntN(64, ticks[2 * i + 1]! - ticks[2 * i]!))),
    )
  }

  destroy(): void {
    for (const set of this.#sets) set.destroy()
    this.#resolved.destroy()
    this.#staging.destroy()
  }
}

/** Submits `encoder` with the launches behind what it holds, and tells how long each took. */
export const timeLaunches = async (
  device: GPUDevice,
  encoder: GPUCommandEncoder,
  launches: readonly Launch[],
): Promise<LaunchTimes> => {
  if (!device.features.has("timestamp-query")) return await timeByWaits(device, encoder, launches)
  const watch = new Stopwatch(device, launches.length)
  try {
    launches.forEach((launch, i) => {
      const pass = encoder.beginComputePass({ timestampWrites: watch.writes(i) })
      launch(pass)
      pass.end()
    })
    watch.resolve(encoder)
    device.queue.submit([encoder.finish()])
    return { method: "timestamps", times: (await watch.read()).slice(0, launches.length) }
  } finally {
    watch.destroy()
  }
}

/** Empty submissions whose median is what submitting and waiting takes. */
const emptySubmissions = 9

const timeByWaits = async (
  device: GPUDevice,
  before: GPUCommandEncoder,
  launches: readonly Launch[],
): Promise<LaunchTimes> => {
  const submit = async (encoder: GPUCommandEncoder): Promise<number> => {
    const start = performance.now()
    device.queue.submit([encoder.finish()])
    await settle(device.queue.onSubmittedWorkDone())
    return 1e6 * (performance.now() - start)
  }
  const timed = async (launch: Launch): Promise<number> => {
    const encoder = device.createCommandEncoder()
    const pass = encoder.beginComputePass()
    launch(pass)
    pass.end()
    return await submit(encoder)
  }
  await submit(before)
  const nothing: number[] = []
  for (let i = 0; i < emptySubmissions; i++) nothing.push(await timed(() => {}))
  const overhead = median(nothing)
  const times: number[] = []
  for (const launch of launches) times.push(Math.max(0, (await timed(launch)) - overhead))
  return { method: "waits", times }
}

/** The middle of some numbers, or the mean of the two in the middle. */
export const median = (values: readonly number[]): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}
