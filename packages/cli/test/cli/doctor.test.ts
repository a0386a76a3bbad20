import { it } from "@effect/vitest"
import { Effect } from "effect"
import { describe, expect } from "vitest"
import { withFiles } from "../support.ts"
import { runProcess } from "./support.ts"

describe("rlpt doctor", () => {
  it.live("tells what this machine computes on, and finds a sound project sound", () =>
    withFiles(
      { "rlpt.config.yaml": "{ fromScratch: true }" },
      Effect.fnUntraced(function* (directory) {
        const { code, errors, output } = yield* runProcess(directory, "doctor")
        expect(output).toMatch(/^✓ runtime {2}rlpt \S+, Bun \d/m)
        expect(output).toMatch(/^[✓!] adapter {2}\S.*\n {11}buffers up to \d/m)
        expect(output).toMatch(/^ {11}kernels: .*\n {13}large products by \S.*\n {13}eight rows by \S.*\n {13}attention by \w+, rows \w/m)
        expect(output).toMatch(/^✓ plugins {2}\d+ found/m)
        expect(output).toMatch(/^✓ project {2}rlpt\.config\.yaml is valid$/m)
        expect({ code, errors }).toEqual({ code: 0, errors: "" })
      }),
    ),
  )

  it.live("marks what is wrong and fails", () =>
    withFiles(
      { "rlpt.config.yaml": "seed: 1\nbeta: -1\n" },
      Effect.fnUntraced(function* (directory) {
        const { code, errors, output } = yield* runProcess(directory, "doctor")
        expect(output).toMatch(
          /^✗ project {2}rlpt\.config\.yaml:2:1 {2}beta: expected a value greater than or equal to 0, got -1$/m,
        )
        expect({ code, errors }).toEqual({ code: 1, errors: "error: one thing to mend, see ✗ above\n" })
      }),
    ),
  )
})
