import { execFile } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { expect, test } from "vitest"
import { ROOT } from "../house/packages.ts"
import { openPage, whyNoChromium } from "./chromium.ts"
import { serve } from "./site.ts"

const run = promisify(execFile)

const missing = whyNoChromium()
test.skipIf(missing !== undefined)(
  `the example page trains in headless Chromium${missing ? ` (skipped: ${missing})` : ""}`,
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "rlpt-site-"))
    try {
      const page = join(ROOT, "packages/tensor/examples/browser/index.html")
      await run(process.execPath, ["build", page, "--outdir", folder])
      await using site = await serve(folder)
      await using browser = await openPage(`${site.url}?epochs=1`)
      const status = await browser.settled(
        '((status) => (status?.dataset.outcome === "done" ? status.textContent : undefined))(document.querySelector("#status"))',
        120,
      )
      expect(status).toMatch(/On swiftshader: epoch 1, loss 0\.\d+, reads (8[5-9]|9\d)\.\d % of unseen digits/)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  },
  180_000,
)
