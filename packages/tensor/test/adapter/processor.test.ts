import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { cpus, tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import { readProcessor } from "../../src/adapter/processor.ts"

const folder = mkdtempSync(join(tmpdir(), "rlpt-caches-"))
afterAll(() => rmSync(folder, { recursive: true }))

const cache = (index: number, type: string, size: string): void => {
  mkdirSync(join(folder, `index${index}`))
  writeFileSync(join(folder, `index${index}`, "type"), `${type}\n`)
  writeFileSync(join(folder, `index${index}`, "size"), `${size}\n`)
}

test("a processor has the cache of instructions that the system tells, or an unknown one", () => {
  cache(0, "Data", "48K")
  expect(readProcessor(folder)).toEqual({ model: cpus()[0]!.model.trim(), instructionCache: 0 })
  cache(1, "Instruction", "64K")
  expect(readProcessor(folder).instructionCache).toBe(64 * 1024)
  expect(readProcessor(join(folder, "nowhere")).instructionCache).toBe(0)
})
