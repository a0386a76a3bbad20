import { execFile } from "node:child_process"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { expect, test } from "vitest"

const folder = join(import.meta.dirname, "../../examples")
const bun = promisify(execFile)
const run = async (...args: readonly string[]): Promise<string> => (await bun(process.execPath, [...args])).stdout

test("digits.ts reads most digits after one epoch", async () => {
  const out = await run(join(folder, "digits.ts"), "1")
  expect(Number(/accuracy ([\d.]+) %/.exec(out)![1])).toBeGreaterThan(85)
})

test("gpt.ts learns its own text, and writes in its alphabet", { timeout: 240_000 }, async () => {
  const out = await run(join(folder, "gpt.ts"), "50")
  const losses = [...out.matchAll(/^step \d+: loss ([\d.]+)$/gm)].map((match) => Number(match[1]))
  expect(losses.length).toBe(2)
  expect(losses[0]).toBeGreaterThan(3.5)
  expect(losses[1]).toBeLessThan(2.8)
  const written = out.split("\n").slice(3).join("\n").trimEnd()
  expect(written.length).toBeGreaterThan(150)
  const source = readFileSync(join(folder, "gpt.ts"), "utf8")
  expect([...written].filter((character) => !source.includes(character))).toEqual([])
  expect(source.split("\n").length).toBeLessThan(150)
})
