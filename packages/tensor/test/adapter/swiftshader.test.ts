import {
  chmodSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { afterEach, beforeEach, describe, expect, test } from "vitest"
import { cacheFolders } from "../../src/adapter/cache-folders.ts"
import { findSwiftShaderArchive, unpackSwiftShader } from "../../src/adapter/swiftshader.ts"

const archive = findSwiftShaderArchive()

let folder: string
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), "rlpt-unpack-"))))
afterEach(() => rmSync(folder, { recursive: true, force: true }))

describe.skipIf(archive === undefined)("unpacking the driver that npm carries", () => {
  const unpack = () => unpackSwiftShader(archive!, folder)

  test("gives two ELF libraries and a file that names the driver beside it", () => {
    const { loader, driver, icd } = unpack()
    for (const library of [loader, driver])
      expect(readFileSync(library).subarray(0, 4).toString("latin1")).toBe("\x7fELF")
    const { ICD } = JSON.parse(readFileSync(icd, "utf8")) as { ICD: { library_path: string } }
    expect(join(dirname(icd), ICD.library_path)).toBe(driver)
  })

  test("happens once: a second call writes nothing", () => {
    const { driver } = unpack()
    const first = statSync(driver)
    expect(unpack().driver).toBe(driver)
    expect(statSync(driver)).toMatchObject({ ino: first.ino, mtimeMs: first.mtimeMs })
  })

  test("leaves nothing beside the finished folder", () => {
    const { driver } = unpack()
    expect(readdirSync(folder).map((name) => join(folder, name))).toEqual([dirname(driver)])
  })

  test("a copy that lost content is replaced", () => {
    const { driver } = unpack()
    const { size } = statSync(driver)
    truncateSync(driver, 0)
    unpack()
    expect(statSync(driver).size).toBe(size)
  })

  test("a copy that others can write to is not trusted", () => {
    const { driver } = unpack()
    writeFileSync(driver, "someone else's code")
    chmodSync(dirname(driver), 0o777)
    unpack()
    expect(readFileSync(driver).subarray(1, 4).toString()).toBe("ELF")
  })

  test("a folder that others can write to is refused", () => {
    chmodSync(folder, 0o777)
    expect(unpack).toThrow(/another user/)
  })
})

test("the cache follows XDG_CACHE_HOME, then HOME, and ends in the temp folder", () => {
  const own = expect.stringContaining(tmpdir())
  expect(cacheFolders({ XDG_CACHE_HOME: "/x", HOME: "/h" }, "linux")).toEqual([join("/x", "rlpt"), own])
  expect(cacheFolders({ HOME: "/h" }, "linux")).toEqual([join("/h", ".cache", "rlpt"), own])
  expect(cacheFolders({ HOME: "/h" }, "darwin")).toEqual([join("/h", "Library", "Caches", "rlpt"), own])
  expect(cacheFolders({ LOCALAPPDATA: "/l", HOME: "/h" }, "win32")).toEqual([join("/l", "rlpt"), own])
  expect(cacheFolders({}, "win32")).toEqual([own])
})
