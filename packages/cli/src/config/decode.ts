import { Effect, Predicate, Result, Schema, SchemaIssue } from "effect"
import { similarNames } from "@rlpt/core"
import { ConfigError, type ConfigProblem } from "./config-error.ts"
import type { ConfigDocument } from "./document.ts"
import { showKeyPath, startsWith, type KeyPath } from "./key-path.ts"
import { applyOverride, parseOverride, type Override } from "./overrides.ts"
import { camelCase, knownKeys, withKnownSpellings } from "./schema-keys.ts"

/** A decoded configuration that still knows where each of its values came from. */
export interface Decoded<A> {
  readonly config: A
  /** `file:line:column`, a file, or `--set …`: where to mend the value at a key path. */
  readonly origin: (path: KeyPath) => string
}

export interface Source {
  readonly document: ConfigDocument
  /** The texts behind `--set`, in order: a later one wins. */
  readonly set: ReadonlyArray<string>
  /** Explains a key that `schema` lacks but that means something elsewhere, such as to another command. */
  readonly foreignKey?: (key: string) => string | undefined
  /** Fills in defaults that depend on other values. */
  readonly prepare?: (value: object) => object
}

const maxMessageLength = 160

const shorten = (message: string): string =>
  message.length > maxMessageLength ? `${message.slice(0, maxMessageLength - 1)}…` : message

const leafMessage: SchemaIssue.LeafHook = (issue) => {
  if (issue._tag === "MissingKey") return "is required"
  const message = SchemaIssue.defaultLeafHook(issue)
  return shorten(message.replace(/^Expected/, "expected"))
}

/**
 * Decodes what a configuration file and the command line say, with one error for everything that is wrong.
 * Keys may be spelled in camelCase or snake_case.
 */
export const decodeConfig = Effect.fnUntraced(function* <A, I>(
  schema: Schema.Codec<A, I>,
  { document, set, foreignKey, prepare = (value) => value }: Source,
) {
  const problems: Array<ConfigProblem> = []
  const [unreadable, overrides] = partition(set.map((text) => parseOverride(schema, text)))
  problems.push(...unreadable)

  const origin = (path: KeyPath): string => originOf(document, overrides, path)
  const duplicate = (path: KeyPath) =>
    problems.push({ where: origin(path), what: `${showKeyPath(path)}: given twice, in camelCase and in snake_case` })

  let value = withKnownSpellings(schema, document.value ?? {}, duplicate)
  for (const override of overrides) {
    const applied = applyOverride(schema, value, override)
    if (Result.isSuccess(applied)) value = withKnownSpellings(schema, applied.success, duplicate)
    else problems.push(applied.failure)
  }

  if (!Predicate.isObject(value)) {
    return yield* new ConfigError({
      problems: [{ where: origin([]), what: "expected keys with values, such as seed: 1" }],
    })
  }
  const decoded = yield* Effect.result(
    Schema.decodeUnknownEffect(schema)(prepare(value), { errors: "all", onExcessProperty: "error", reportInput: true }),
  )
  if (Result.isSuccess(decoded) && problems.length === 0) {
    return { config: decoded.success, origin } satisfies Decoded<A>
  }
  const issues = Result.isFailure(decoded) ? describe(schema, decoded.failure.issue, origin, foreignKey) : []
  return yield* new ConfigError({ problems: [...problems, ...issues] })
})

const partition = <A, E>(results: ReadonlyArray<Result.Result<A, E>>): readonly [Array<E>, Array<A>] => [
  results.filter(Result.isFailure).map(({ failure }) => failure),
  results.filter(Result.isSuccess).map(({ success }) => success),
]

/** The last `--set` that had a say in `path`, else the file. */
const originOf = (document: ConfigDocument, overrides: ReadonlyArray<Override>, path: KeyPath): string => {
  const setter = overrides.findLast(
    (override) => startsWith(path, override.path) || (startsWith(override.path, path) && !document.has(path)),
  )
  return setter?.source ?? document.locate(path)
}

const describe = (
  schema: Schema.Top,
  issue: SchemaIssue.Issue,
  origin: (path: KeyPath) => string,
  foreignKey: Source["foreignKey"],
): Array<ConfigProblem> => {
  const unknownKey = "unknown key"
  const { issues } = SchemaIssue.makeFormatterStandardSchemaV1({
    leafHook: (leaf) => (leaf._tag === "UnexpectedKey" ? unknownKey : leafMessage(leaf)),
  })(issue)
  return issues.map(({ path: parts = [], message }) => {
    const path = parts.map((part) => (typeof part === "object" ? part.key : part)).map(keyOf)
    const name = showKeyPath(path)
    const what = message === unknownKey ? `unknown key${hint(schema, path, foreignKey)}` : message
    return { where: origin(path), what: name === "" ? what : `${name}: ${what.replace(/^Expected/, "expected")}` }
  })
}

const keyOf = (key: PropertyKey): string | number => (typeof key === "symbol" ? String(key) : key)

const hint = (schema: Schema.Top, path: KeyPath, foreignKey: Source["foreignKey"]): string => {
  const key = String(path.at(-1))
  const foreign = path.length === 1 ? foreignKey?.(key) : undefined
  if (foreign !== undefined) return `: ${foreign}`
  const [near] = similarNames(camelCase(key), [...(knownKeys(schema, path.slice(0, -1)) ?? [])])
  return near === undefined ? "" : `; did you mean "${near}"?`
}
