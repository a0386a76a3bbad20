import { execFile } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { expect, test } from "vitest"
import { ROOT } from "../house/packages.ts"
import { openPage, whyNoChromium } from "./chromium.ts"
import { serve } from "./site.ts"

const run = promisify(execFile)

/** What is remembered of an adapter is kept in the browser's cache, in a page and in its workers. */
const script = `
import { browserShelf } from ${JSON.stringify(join(ROOT, "packages/tensor/src/tuning/shelf.ts"))}
const isPage = typeof document !== "undefined"
if (isPage) {
  const before = await browserShelf.read("a.json")
  await browserShelf.write("a.json", "one")
  const place = await browserShelf.write("a.json", "two")
  const worker = new Worker("./main.js", { type: "module" })
  worker.onmessage = ({ data }) => { window.outcome = JSON.stringify({ before: before ?? null, place, inWorker: data }) }
  worker.onerror = ({ message }) => { window.outcome = message }
} else postMessage(await browserShelf.read("a.json"))
`

const missing = whyNoChromium()
test.skipIf(missing !== undefined)(
  `a browser remembers from page to worker${missing ? ` (skipped: ${missing})` : ""}`,
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "rlpt-site-"))
    try {
      writeFileSync(join(folder, "main.ts"), script)
      writeFileSync(join(folder, "index.html"), '<!doctype html><script type="module" src="./main.js"></script>')
      await run(process.execPath, ["build", join(folder, "main.ts"), "--outdir", folder])
      await using site = await serve(folder)
      await using browser = await openPage(site.url)
      const place = "the browser's cache of this site"
      expect(JSON.parse(String(await browser.settled("window.outcome", 60)))).toEqual({
        before: null,
        place,
        inWorker: { text: "two", place },
      })
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  },
  120_000,
)
