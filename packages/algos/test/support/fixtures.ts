import { readFileSync } from "node:fs"
import { join } from "node:path"

/** A fixture that `fixtures/make.py` wrote; the caller names its shape. */
export const fixture = <A>(name: string): A =>
  JSON.parse(readFileSync(join(import.meta.dirname, "..", "fixtures", `${name}.json`), "utf8")) as A

/** The largest |actual − expected|; infinite where the lengths differ or something is not a number. */
export const difference = (actual: ArrayLike<number>, expected: ArrayLike<number>): number => {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY
  const differences = Array.from(actual, (value, i) => Math.abs(value - expected[i]!))
  return differences.some(Number.isNaN) ? Number.POSITIVE_INFINITY : Math.max(0, ...differences)
}
