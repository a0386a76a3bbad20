import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import { fileShelf } from "../../src/tuning/file-shelf.ts"

const root = mkdtempSync(join(tmpdir(), "rlpt-shelf-"))
afterAll(() => rmSync(root, { recursive: true, force: true }))
let made = 0
const fresh = (): string => join(root, String(made++))

test("a text is kept in a file, and nothing else is left behind", async () => {
  const folder = fresh()
  const shelf = fileShelf([folder])
  expect(await shelf.read("a.json")).toBeUndefined()
  expect(await shelf.write("a.json", "one")).toBe(join(folder, "a.json"))
  await Promise.all(["two", "three"].map((text) => shelf.write("a.json", text)))
  expect(["two", "three"]).toContain((await shelf.read("a.json"))!.text)
  expect(readdirSync(folder)).toEqual(["a.json"])
})

test("the next folder serves where one cannot be written", async () => {
  const [blocked, folder] = [fresh(), fresh()]
  writeFileSync(blocked, "a file where a folder should be")
  const shelf = fileShelf([join(blocked, "below"), folder])
  expect(await shelf.write("a.json", "kept")).toBe(join(folder, "a.json"))
  expect(await shelf.read("a.json")).toEqual({ text: "kept", place: join(folder, "a.json") })
  await expect(fileShelf([join(blocked, "below")]).write("a.json", "lost")).rejects.toThrow(/below/)
})

test.skipIf(process.platform === "win32")("a folder that others can write is not believed", async () => {
  const folder = fresh()
  mkdirSync(folder)
  writeFileSync(join(folder, "a.json"), "planted")
  chmodSync(folder, 0o777)
  const shelf = fileShelf([folder])
  expect(await shelf.read("a.json")).toBeUndefined()
  await expect(shelf.write("b.json", "mine")).rejects.toThrow(/can be written by, another user/)
  expect(existsSync(join(folder, "b.json"))).toBe(false)
})
