import { execFile } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { expect, test } from "vitest"
import { openPage, whyNoChromium } from "./chromium.ts"

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

const missing = whyNoChromium()
test.skipIf(missing !== undefined)(
  `the browser page trains in headless Chromium${missing ? ` (skipped: ${missing})` : ""}`,
  async () => {
    const site = mkdtempSync(join(tmpdir(), "rlpt-site-"))
    await run("build", join(folder, "browser/index.html"), "--outdir", site)
    const server = createServer((request, response) => {
      const path = request.url!.split("?")[0]!
      const name = path === "/" ? "index.html" : path.slice(1)
      response.setHeader("content-type", name.endsWith(".js") ? "text/javascript" : "text/html")
      try {
        response.end(readFileSync(join(site, name)))
      } catch {
        response.writeHead(404).end()
      }
    })
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    try {
      await using page = await openPage(`http://127.0.0.1:${(server.address() as AddressInfo).port}/?epochs=1`)
      let status: unknown
      for (let i = 0; i < 1200 && !/done/.test(String(status)); i++) {
        await new Promise((resolve) => setTimeout(resolve, 100))
        status = await page.evaluate(
          '((status) => `${status?.textContent} ${status?.dataset.outcome}`)(document.querySelector("#status"))',
        )
      }
      expect(status).toMatch(/On swiftshader: epoch 1, loss 0\.\d+, reads (8[5-9]|9\d)\.\d % of unseen digits done/)
    } finally {
      server.close()
      rmSync(site, { recursive: true, force: true })
    }
  },
  180_000,
)
