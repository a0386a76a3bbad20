import { Effect, Schema, SchemaIssue } from "effect"

/** Options of a plugin that has none. */
export type NoOptions = Readonly<Record<string, never>>

/** One thing wrong with the options given to a plugin. Plain data, to survive two copies of effect. */
export interface OptionProblem {
  /** Keys that lead from the options to the culprit. */
  readonly path: ReadonlyArray<string | number>
  readonly message: string
}

const problems = (issue: SchemaIssue.Issue): ReadonlyArray<OptionProblem> => {
  const found = SchemaIssue.makeFormatterStandardSchemaV1()(issue).issues.map(({ path, message }): OptionProblem => {
    const keys = (path ?? []).map((segment) => (typeof segment === "object" ? segment.key : segment))
    return { path: keys.map((key) => (typeof key === "symbol" ? String(key) : key)), message }
  })
  // A union reports the same problem once for each member.
  return [...new Map(found.map((problem) => [JSON.stringify(problem), problem])).values()]
}

const decodeNone = (raw: unknown): Effect.Effect<NoOptions, ReadonlyArray<OptionProblem>> => {
  if (typeof raw !== "object" || raw === null) return Effect.fail([{ path: [], message: "Expected object" }])
  const keys = Object.keys(raw)
  if (keys.length === 0) return Effect.succeed({})
  return Effect.fail(keys.map((key) => ({ path: [key], message: "Expected no excess property: there are no options" })))
}

/** Decodes `raw` (nothing given counts as `{}`) and reports all problems at once; unknown keys are problems too. */
export const decodeOptions = <Options>(
  schema: Schema.Decoder<Options> | undefined,
  raw: unknown = {},
): Effect.Effect<Options, ReadonlyArray<OptionProblem>> =>
  schema === undefined
    ? (decodeNone(raw) as Effect.Effect<Options, ReadonlyArray<OptionProblem>>)
    : Schema.decodeUnknownEffect(schema, { errors: "all", onExcessProperty: "error" })(raw).pipe(
        Effect.mapError((error) => problems(error.issue)),
      )

export const optionsJsonSchema = (schema: Schema.Constraint | undefined): unknown =>
  Schema.toJsonSchemaDocument(schema ?? Schema.Struct({})).schema

/** `options.weight: Expected number`, under the configuration key that holds the plugin. */
export const showProblem = (key: string, { path, message }: OptionProblem): string =>
  `${key}.options${path.map((part) => (typeof part === "number" ? `[${part}]` : `.${part}`)).join("")}: ${message}`
