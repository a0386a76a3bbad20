import { it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { describe, expect } from "vitest"
import type { Sample } from "@rlpt/core"
import { makeScreen } from "../../src/view/screen.ts"
import { viewTracker } from "../../src/view/view-tracker.ts"

/** A screen whose output is kept as text. */
const recorded = (terminal: { readonly columns: number; readonly noColor?: string } | undefined) => {
  const written: Array<string> = []
  const stream = {
    isTTY: terminal !== undefined,
    columns: terminal?.columns ?? 0,
    write: (text: string) => written.push(text),
  }
  const screen = makeScreen({ output: stream, errorOutput: stream, noColor: terminal?.noColor })
  return { screen, text: () => written.join("") }
}

const sample: Sample = {
  step: 3,
  row: 5,
  sample: 1,
  prompt: "3 5 7 → 26 = ?\n",
  completion: "3*7+5=26",
  rewards: { countdown: 1 },
  reward: 1,
  advantage: 1.32,
  finishReason: "stop",
}

/** Three steps of ten seconds each, the first after an evaluation of the base; the last one has a sample. */
const run = Effect.fnUntraced(function* (screen: ReturnType<typeof recorded>["screen"]) {
  const tracker = yield* viewTracker(screen, 4)
  yield* tracker.metrics(0, { "eval/reward": 0.1, "eval/accuracy": 0.125 })
  for (const step of [1, 2, 3]) {
    yield* TestClock.adjust("10 seconds")
    if (step === 3) yield* tracker.samples(step, [sample])
    yield* tracker.metrics(step, {
      reward: 0.25 * step,
      loss: 0.01,
      kl: 0.012,
      entropy: 0.84,
      "clip_ratio/region_mean": 0.03,
      "completions/mean_length": 11.2,
    })
    yield* tracker.timings(step, { step_time: 10, tokens_per_second: 9400 })
  }
})

const figures = "kl 0.012  entropy 0.84  clip 3 %  len 11.2  9,400 tok/s"

describe("into a file", () => {
  it.effect("each step is a line", () =>
    Effect.gen(function* () {
      const { screen, text } = recorded(undefined)
      yield* run(screen)
      expect(text()).toBe(
        [
          "step 0/4  accuracy 12.5 %  eval reward 0.10",
          `step 1/4  reward 0.25  ${figures}`,
          `step 2/4  reward 0.50  ${figures}  20s left`,
          `step 3/4  reward 0.75  ${figures}  10s left`,
          "",
        ].join("\n"),
      )
    }),
  )
})

describe("on a terminal", () => {
  it.effect("one line is written over and over, and a step with a sample stays", () =>
    Effect.gen(function* () {
      const { screen, text } = recorded({ columns: 140, noColor: "1" })
      yield* run(screen)
      const erase = "\r\u001b[2K"
      expect(text()).toBe(
        [
          "step 0/4  accuracy 12.5 %  eval reward 0.10\n",
          `step 1/4  █████░░░░░░░░░░░░░░░  reward 0.25 ▁  ${figures}`,
          `${erase}step 2/4  ██████████░░░░░░░░░░  reward 0.50 ▁█  ${figures}  20s left`,
          erase,
          `step 3/4  ███████████████░░░░░  reward 0.75 ▁▅█  ${figures}  10s left\n`,
          "  “3 5 7 → 26 = ?”  →  “3*7+5=26”   reward 1.00   advantage +1.32\n",
        ].join(""),
      )
    }),
  )

  it.effect("loses the last figures when it is narrow, and never wraps", () =>
    Effect.gen(function* () {
      const { screen, text } = recorded({ columns: 70, noColor: "1" })
      yield* run(screen)
      const lines = text().split(/[\r\n]|\u001b\[2K/)
      expect(lines).toContain("step 2/4  ██████████░░░░░░░░░░  reward 0.50 ▁█  kl 0.012")
      for (const line of lines) expect(line.length).toBeLessThan(70)
    }),
  )

  it.effect("of unknown width is taken to be 80 columns wide", () =>
    Effect.gen(function* () {
      const { screen, text } = recorded({ columns: 0, noColor: "1" })
      yield* run(screen)
      expect(text()).toContain("reward 0.50 ▁█  kl 0.012  entropy 0.84\r")
    }),
  )

  it.effect("NO_COLOR leaves out the colours, and nothing else", () =>
    Effect.gen(function* () {
      const colored = recorded({ columns: 140, noColor: "" })
      const plain = recorded({ columns: 140, noColor: "1" })
      yield* run(colored.screen)
      yield* run(plain.screen)
      expect(colored.text()).toContain("\u001b[2m")
      expect(colored.text().replaceAll(/\u001b\[\d+m/g, "")).toBe(plain.text())
    }),
  )

  it.effect("a warning goes above the live line", () =>
    Effect.gen(function* () {
      const { screen, text } = recorded({ columns: 80 })
      yield* screen.live("working")
      yield* screen.warn("careful")
      yield* screen.live("")
      expect(text()).toBe("working\r\u001b[2Kcareful\nworking\r\u001b[2K")
    }),
  )
})

it.effect("supervised fine-tuning shows its losses", () =>
  Effect.gen(function* () {
    const { screen, text } = recorded(undefined)
    const tracker = yield* viewTracker(screen, 100)
    yield* tracker.rewind(6)
    yield* tracker.metrics(7, { loss: 1.25, grad_norm: 3, "eval/loss": 1.5 })
    yield* tracker.timings(7, { tokens_per_second: 120 })
    expect(text()).toBe("going on after step 6\nstep   7/100  loss 1.25  eval loss 1.50  120 tok/s\n")
  }),
)
