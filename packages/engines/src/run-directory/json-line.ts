// JSON has no such numbers, and `null` would not say which one it was.
const encodeNumber = (_key: string, value: unknown): unknown =>
  typeof value === "number" && !Number.isFinite(value) ? String(value) : value

/** `value` as one line of JSON; NaN and infinities become the strings "NaN", "Infinity" and "-Infinity". */
export const jsonLine = (value: object): string => `${JSON.stringify(value, encodeNumber)}\n`

/**
 * Length of the longest start of a JSON-lines file that holds only whole lines of steps up to `step`. Lines are in the
 * order of their steps, so everything behind that length is of a later step, or a line that a crash cut short.
 */
export const lengthUpTo = (bytes: Uint8Array, step: number): number => {
  const decoder = new TextDecoder()
  let length = 0
  for (;;) {
    const end = bytes.indexOf(0x0a, length)
    if (end === -1) return length
    const lineStep = stepOf(decoder.decode(bytes.subarray(length, end)))
    if (lineStep === undefined || lineStep > step) return length
    length = end + 1
  }
}

const stepOf = (line: string): number | undefined => {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === "object" && value !== null && "step" in value && typeof value.step === "number"
      ? value.step
      : undefined
  } catch {
    return undefined
  }
}
