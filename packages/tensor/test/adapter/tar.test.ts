import { expect, test } from "vitest"
import { readTar } from "../../src/adapter/tar.ts"

/** A ustar entry as POSIX lays it out. */
function entry(name: string, content: string, { type = "0", prefix = "" } = {}): Uint8Array {
  const data = new TextEncoder().encode(content)
  const bytes = new Uint8Array(512 + Math.ceil(data.length / 512) * 512)
  const put = (text: string, offset: number) => bytes.set(new TextEncoder().encode(text), offset)
  put(name, 0)
  put(data.length.toString(8).padStart(11, "0"), 124)
  put(type, 156)
  put("ustar\u000000", 257)
  put(prefix, 345)
  bytes.set(data, 512)
  return bytes
}

const archive = (...entries: Uint8Array[]) => Buffer.concat([...entries, new Uint8Array(1024)])
const read = (bytes: Uint8Array) => [...readTar(bytes)].map(({ name, data }) => [name, Buffer.from(data).toString()])

test("yields regular files with their path and content", () => {
  const long = "x".repeat(1500)
  const bytes = archive(entry("a.txt", "one"), entry("empty", ""), entry("b.txt", long, { prefix: "some/folder" }))
  expect(read(bytes)).toEqual([
    ["a.txt", "one"],
    ["empty", ""],
    ["some/folder/b.txt", long],
  ])
})

test("passes over folders, links and extended headers", () => {
  const bytes = archive(
    entry("d/", "", { type: "5" }),
    entry("l", "", { type: "2" }),
    entry("x", "pax", { type: "x" }),
    entry("f", "1"),
  )
  expect(read(bytes)).toEqual([["f", "1"]])
})

test("an archive that is cut short is refused by the name of the file", () => {
  expect(() => read(archive(entry("whole", "1"), entry("cut", "y".repeat(4000))).subarray(0, 3000))).toThrow(
    /inside cut/,
  )
})
