// Installs everything, checks types and style, and runs all tests; needs Bun only. The last line is `N passed, M failed`.
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { bun, install } from "./workspace.ts"

await install()

let passed = 0
let failed = 0
const count = (succeeded: boolean) => (succeeded ? passed++ : failed++)

for (const check of ["typecheck", "lint"]) count((await bun("run", check)) === 0)

const folder = mkdtempSync(join(tmpdir(), "rlpt-test-"))
const report = join(folder, "report.json")
const code = await bun("run", "test", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`)
const tests = await readReport(report)
rmSync(folder, { recursive: true, force: true })
passed += tests.passed
// A file that cannot be loaded, or an error outside any test, fails the run without failing a test.
failed += code !== 0 && tests.failed === 0 ? 1 : tests.failed

process.stdout.write(`\n${passed} passed, ${failed} failed\n`)
process.exit(failed > 0 || tests.passed === 0 ? 1 : 0)

async function readReport(file: string): Promise<{ passed: number; failed: number }> {
  if (!(await Bun.file(file).exists())) return { passed: 0, failed: 0 }
  const { numPassedTests, numFailedTests } = (await Bun.file(file).json()) as Record<string, number>
  return { passed: numPassedTests ?? 0, failed: numFailedTests ?? 0 }
}
