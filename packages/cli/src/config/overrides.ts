import { Predicate, Result, type Schema } from "effect"
import { parseDocument } from "yaml"
import type { ConfigProblem } from "./config-error.ts"
import { parseKeyPath, showKeyPath, type KeyPath } from "./key-path.ts"
import { knownKeys, knownSpelling } from "./schema-keys.ts"

/** A `--set key.path=value` of the command line. */
export interface Override {
  /** As written, for messages: `--set beta=0.1`. */
  readonly source: string
  readonly path: KeyPath
  readonly value: unknown
}

const form = "expected key=value, as in --set beta=0.04 or --set rewards[0].weight=2"

/** Parses the text behind `--set`. The value is YAML: numbers, true, [1, 2], { a: 1 }; anything else is a string. */
export const parseOverride = (schema: Schema.Top, text: string): Result.Result<Override, ConfigProblem> => {
  const source = `--set ${text}`
  const equals = text.indexOf("=")
  const path = equals === -1 ? undefined : parseKeyPath(text.slice(0, equals).trim())
  if (path === undefined) return Result.fail({ where: source, what: form })
  const document = parseDocument(text.slice(equals + 1), { prettyErrors: false })
  const fault = [...document.errors, ...document.warnings][0]
  if (fault !== undefined) return Result.fail({ where: source, what: `the value is not YAML: ${fault.message}` })
  const spelled = path.reduce<KeyPath>(
    (start, part) => [...start, typeof part === "string" ? knownSpelling(part, knownKeys(schema, start)) : part],
    [],
  )
  return Result.succeed({ source, path: spelled, value: document.toJS() as unknown })
}

/** `root` with the value of `override` in its place; missing objects on the way are made. Fails if it has no place. */
export const applyOverride = (
  schema: Schema.Top,
  root: unknown,
  override: Override,
): Result.Result<unknown, ConfigProblem> => {
  const place = (value: unknown, depth: number): Result.Result<unknown, ConfigProblem> => {
    const part = override.path[depth]
    if (part === undefined) return Result.succeed(override.value)
    const here = override.path.slice(0, depth)
    const misplaced = (what: string) => Result.fail({ where: override.source, what: `${showKeyPath(here)} ${what}` })
    if (typeof part === "number") {
      const items = value === undefined ? [] : value
      if (!Array.isArray(items)) return misplaced("is not a list")
      if (part > items.length) return misplaced(`has ${items.length} items, so there is no [${part}]`)
      return Result.map(place(items[part], depth + 1), (item) => items.toSpliced(part, 1, item))
    }
    // `task: gsm8k` is short for `task: { use: gsm8k }`.
    const isShort = typeof value === "string" && knownKeys(schema, here)?.has("use") === true
    const object = value === undefined ? {} : isShort ? { use: value } : value
    if (!Predicate.isObject(object)) return misplaced("is not an object")
    const child = Object.hasOwn(object, part) ? Reflect.get(object, part) : undefined
    return Result.map(place(child, depth + 1), (item) => ({ ...object, [part]: item }))
  }
  return place(root, 0)
}
