import { it } from "@effect/vitest"
import { Effect, FileSystem } from "effect"
import { describe, expect, test } from "vitest"
import {
  eventsLengthUpTo,
  scalarRecord,
  tensorboardTracker,
  versionRecord,
} from "../../src/run-directory/tensorboard-tracker.ts"
import { crc32c, decodeRecords, encodeRecord } from "../../src/run-directory/tfrecord.ts"
import { inTemporaryDirectory } from "./support.ts"

// Written by TensorBoard 2.21.0 itself (RecordWriter of event_pb2.Event messages) with the values of `ours`, below.
const theirs =
  "1800000000000000a37f4b220900001040fc54d9411a0d627261696e2e4576656e743a32338d2fe93c00000000000000c8b7a3520900006040fc" +
  "54d94110012a2f0a0d0a06726577617264150000803e0a1e0a17636f6d706c6574696f6e732f6d65616e5f6c656e67746815333333416e601e51" +
  "290000000000000037ff5f00090000a040fc54d94110ac022a1b0a090a026b6c150000c07f0a0e0a07656e74726f70791577cc2bb2da6f361c1a" +
  "00000000000000129bd82d090000e040fc54d94110f0a2042a0b0a090a02c3bc150000404021ddcf2b"

const ours = [
  versionRecord(1700000000.25),
  scalarRecord(1700000001.5, 1, { reward: 0.25, "completions/mean_length": 11.2 }),
  scalarRecord(1700000002.5, 300, { kl: Number.NaN, entropy: -1e-8 }),
  scalarRecord(1700000003.5, 70000, { ü: 3 }),
]

const concat = (parts: ReadonlyArray<Uint8Array>): Uint8Array => new Uint8Array(Buffer.concat(parts))

test("crc32c agrees with the check value of the CRC catalogue", () => {
  expect(crc32c(new TextEncoder().encode("123456789"))).toBe(0xe3069283)
})

test("an event file has the bytes that TensorBoard writes", () => {
  expect(Buffer.concat(ours).toString("hex")).toBe(theirs)
})

describe("reading records back", () => {
  test("stops at a damaged record", () => {
    const bytes = concat([encodeRecord(Uint8Array.of(1, 2, 3)), encodeRecord(Uint8Array.of(4))])
    expect([...decodeRecords(bytes)].map(({ data }) => [...data])).toEqual([[1, 2, 3], [4]])
    bytes[bytes.length - 5] = 5
    expect([...decodeRecords(bytes)].map(({ data }) => [...data])).toEqual([[1, 2, 3]])
  })

  test("keeps the version and all whole records up to a step", () => {
    const lengths = ours.map((_, index) => concat(ours.slice(0, index + 1)).length)
    const all = concat(ours)
    expect(eventsLengthUpTo(all, 0)).toBe(lengths[0])
    expect(eventsLengthUpTo(all, 1)).toBe(lengths[1])
    expect(eventsLengthUpTo(all, 69999)).toBe(lengths[2])
    expect(eventsLengthUpTo(all, 70000)).toBe(lengths[3])
    expect(eventsLengthUpTo(all.subarray(0, all.length - 1), 70000)).toBe(lengths[2])
  })
})

it.effect("a resumed run goes on in the same event file", () =>
  inTemporaryDirectory(
    Effect.fnUntraced(function* (directory) {
      const fs = yield* FileSystem.FileSystem
      const first = yield* tensorboardTracker(directory)
      for (const step of [1, 2, 3]) yield* first.metrics(step, { reward: step })
      const second = yield* tensorboardTracker(directory)
      yield* second.rewind(2)
      yield* second.timings(3, { tokens_per_second: 5 })
      const [file, ...others] = yield* fs.readDirectory(directory)
      expect(others).toEqual([])
      const records = [...decodeRecords(yield* fs.readFile(`${directory}/${file}`))]
      const texts = records.map(({ data }) => new TextDecoder().decode(data))
      expect(texts.map((text) => /brain.Event:2|reward|timings\/tokens_per_second/.exec(text)?.[0])).toEqual([
        "brain.Event:2",
        "reward",
        "reward",
        "timings/tokens_per_second",
      ])
    }),
  ),
)
