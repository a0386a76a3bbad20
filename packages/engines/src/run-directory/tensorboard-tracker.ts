import { Clock, Effect, FileSystem, Path } from "effect"
import type { Metrics, Tracker } from "@rlpt/core"
import { logFile, trackerError } from "./log-file.ts"
import { decodeRecords, encodeRecord } from "./tfrecord.ts"

/**
 * The four protocol-buffer messages of a TensorBoard scalar (tensorboard/compat/proto/event.proto and summary.proto):
 * Event { 1 wall_time: double, 2 step: int64, 3 file_version: string, 5 summary: Summary }, Summary { 1 value: Value[] },
 * Value { 1 tag: string, 2 simple_value: float }.
 */
const wireType = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const

const varint = (value: number): number[] => {
  const bytes: number[] = []
  let rest = value
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80)
  return [...bytes, rest]
}

const field = (number: number, type: keyof typeof wireType, payload: Iterable<number>): number[] => [
  (number << 3) | wireType[type],
  ...payload,
]

const lengthDelimited = (number: number, payload: ArrayLike<number>): number[] =>
  field(number, "bytes", [...varint(payload.length), ...Array.from(payload)])

const text = (number: number, value: string): number[] => lengthDelimited(number, new TextEncoder().encode(value))

const wallTime = (seconds: number): number[] => field(1, "fixed64", new Uint8Array(new Float64Array([seconds]).buffer))

/** The record that opens an event file. `seconds` since 1970. */
export const versionRecord = (seconds: number): Uint8Array =>
  encodeRecord(Uint8Array.from([...wallTime(seconds), ...text(3, "brain.Event:2")]))

/** One record with all of `scalars` (values are rounded to float32). `seconds` since 1970. */
export const scalarRecord = (seconds: number, step: number, scalars: Metrics): Uint8Array => {
  const values = Object.entries(scalars).flatMap(([tag, value]) =>
    lengthDelimited(1, [...text(1, tag), ...field(2, "fixed32", new Uint8Array(new Float32Array([value]).buffer))]),
  )
  return encodeRecord(
    Uint8Array.from([...wallTime(seconds), ...field(2, "varint", varint(step)), ...lengthDelimited(5, values)]),
  )
}

/** The step of an event as written above: field 2 follows the nine bytes of the wall time, or is left out. */
const stepOf = (event: Uint8Array): number => {
  if (event[9] !== ((2 << 3) | wireType.varint)) return 0
  let step = 0
  for (let index = 10, scale = 1; index < event.length; index++, scale *= 0x80) {
    const byte = event[index] ?? 0
    step += (byte % 0x80) * scale
    if (byte < 0x80) break
  }
  return step
}

/** Length of the start of an event file that holds whole records of steps up to `step` only. */
export const eventsLengthUpTo = (bytes: Uint8Array, step: number): number => {
  let length = 0
  for (const { data, end } of decodeRecords(bytes)) {
    // The version record has no step and always stays.
    if (length > 0 && stepOf(data) > step) break
    length = end
  }
  return length
}

const isEventFile = (name: string): boolean => name.startsWith("events.out.tfevents.")

/**
 * `events.out.tfevents.*` in `directory`, for `tensorboard --logdir`: metrics under their own names, timings under
 * `timings/`. A resumed run goes on in the same file. Events carry wall-clock times, so this file alone is not part of
 * the promise that a run repeats byte for byte.
 */
export const tensorboardTracker = Effect.fnUntraced(function* (directory: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const now = Effect.map(Clock.currentTimeMillis, (milliseconds) => milliseconds / 1000)
  const names = yield* fs.readDirectory(directory).pipe(Effect.mapError(trackerError(`read ${directory}`)))
  const existing = names.find(isEventFile)
  const opened = yield* now
  const file = logFile(fs, path.join(directory, existing ?? `events.out.tfevents.${Math.floor(opened)}.rlpt`))
  if (existing === undefined) yield* file.append(versionRecord(opened))
  const scalars = (step: number, values: Metrics) =>
    Effect.flatMap(now, (seconds) => file.append(scalarRecord(seconds, step, values)))
  const tracker: Tracker["Service"] = {
    metrics: scalars,
    timings: (step, timings) =>
      scalars(step, Object.fromEntries(Object.entries(timings).map(([name, value]) => [`timings/${name}`, value]))),
    samples: () => Effect.void,
    rewind: (step) => file.truncate((bytes) => eventsLengthUpTo(bytes, step)),
  }
  return tracker
})
