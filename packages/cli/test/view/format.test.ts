import { describe, expect, test } from "vitest"
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatNumber,
  formatPercent,
  oneLine,
  parseBytes,
  progressBar,
  sparkline,
} from "../../src/view/format.ts"

test.each([
  [9400, "9,400"],
  [99.97, "100"],
  [11.2, "11.2"],
  [9.9, "9.90"],
  [0.61, "0.61"],
  [1, "1.00"],
  [0, "0.00"],
  [-0.5, "-0.50"],
  [0.012, "0.012"],
  [-0.0123, "-0.012"],
  [3.14e-7, "3.1e-7"],
  [Number.NaN, "NaN"],
])("%d is written %s", (value, text) => expect(formatNumber(value)).toBe(text))

test.each([
  [0, "0 %"],
  [0.03, "3 %"],
  [0.625, "62.5 %"],
  [1, "100 %"],
  [0.001, "0.10 %"],
])("a share of %d is %s", (share, text) => expect(formatPercent(share)).toBe(text))

test.each([
  [0.4, "0s"],
  [42, "42s"],
  [72, "1m 12s"],
  [3599.6, "1h 00m"],
  [7500, "2h 05m"],
])("%d seconds are %s", (seconds, text) => expect(formatDuration(seconds)).toBe(text))

test.each([
  [512, "512"],
  [99_000, "99,000"],
  [795_776, "0.80 M"],
  [494_000_000, "494 M"],
  [7.6e9, "7.60 B"],
])("%d parameters are %s", (count, text) => expect(formatCount(count)).toBe(text))

test("a progress bar is full at the end and never overflows", () => {
  expect(progressBar(0, 4)).toBe("░░░░")
  expect(progressBar(0.5, 4)).toBe("██░░")
  expect(progressBar(1.2, 4)).toBe("████")
})

describe("sparkline", () => {
  test("runs from the lowest to the highest value", () => {
    expect(sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8)).toBe("▁▂▃▄▅▆▇█")
    expect(sparkline([3, 1, 2], 8)).toBe("█▁▅")
  })
  test("averages a long course", () => expect(sparkline([0, 0, 7, 7], 2)).toBe("▁█"))
  test("is flat for a flat course, and empty for none", () => {
    expect(sparkline([2, 2, 2], 8)).toBe("▁▁▁")
    expect(sparkline([], 8)).toBe("")
    expect(sparkline([Number.NaN, 1], 8)).toBe("▁")
  })
})

test("a text on one line shows its line breaks and no control characters", () => {
  expect(oneLine(" a\n\n b\u001b[2Jc\t", 20)).toBe("a ⏎ b [2Jc")
  expect(oneLine("abcdef", 4)).toBe("abc…")
})

test.each([
  [4 * 2 ** 30, "4 GiB"],
  [128 * 2 ** 20, "128 MiB"],
  [2.5 * 2 ** 20, "2.5 MiB"],
  [12_345, "12.1 KiB"],
])("%d bytes are written %s", (bytes, text) => expect(formatBytes(bytes)).toBe(text))

test.each([
  ["24GiB", 24 * 2 ** 30],
  ["512 mib", 512 * 2 ** 20],
  ["1.5GB", 1.5e9],
  ["64", undefined],
  ["much", undefined],
])("%s is read as %d bytes", (text, bytes) => expect(parseBytes(text)).toBe(bytes))
