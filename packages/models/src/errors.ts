/** What kind of fault a {@link ModelError} reports. */
export type ModelFault =
  | "missing-directory"
  | "missing-file"
  | "invalid-file"
  | "unsupported"
  | "missing-tensor"
  | "unexpected-tensor"
  | "wrong-shape"
  | "wrong-dtype"
  | "not-finite"
  | "tokenizer"
  | "not-found"
  | "unauthorized"
  | "offline"
  | "network"
  | "checksum"
  | "disk"

/** A model that cannot be loaded or saved. The message names the file, the key or tensor, and what to do. */
export class ModelError extends Error {
  override readonly name = "ModelError"

  constructor(
    readonly fault: ModelFault,
    readonly file: string,
    problem: string,
    options?: ErrorOptions,
  ) {
    super(`${file}: ${problem}`, options)
  }
}

/** The error of a model that is none of the `supported` ones; it names the one that is written most alike. */
export const unsupportedArchitecture = (name: string, supported: ReadonlyArray<string>, file: string): ModelError => {
  const short = name.slice(0, 100)
  const nearest = supported.toSorted((a, b) => editDistance(a, short) - editDistance(b, short))[0]
  const problem = `architecture ${JSON.stringify(short)} is not supported; the nearest that is: ${nearest} (all: ${supported.join(", ")})`
  return new ModelError("unsupported", file, problem)
}

/** Levenshtein distance. */
const editDistance = (a: string, b: string): number => {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1))
    }
    row = next
  }
  return row[b.length]!
}
