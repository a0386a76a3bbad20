import { Schema } from "effect"

/** One thing that is wrong with a configuration. */
export interface ConfigProblem {
  /** Where to mend it: `file:line:column`, a file, or the `--set` that brought it. */
  readonly where: string
  /** What is wrong, starting with the key path. */
  readonly what: string
}

// Numeric: line 9 comes before line 10.
const byPlace = (a: ConfigProblem, b: ConfigProblem): number => a.where.localeCompare(b.where, "en", { numeric: true })

/** A configuration that cannot be used, with everything that is wrong with it. */
export class ConfigError extends Schema.TaggedError<ConfigError>()("ConfigError", {
  problems: Schema.Array(Schema.Struct({ where: Schema.String, what: Schema.String })),
}) {
  override get message(): string {
    const lines = this.problems.toSorted(byPlace).map(({ where, what }) => `${where}  ${what}`)
    return lines.length === 1
      ? lines.join()
      : [`the configuration has ${lines.length} problems`, ...lines.map((line) => `  ${line}`)].join("\n")
  }
}

export const configError = (where: string, what: string): ConfigError =>
  new ConfigError({ problems: [{ where, what }] })
