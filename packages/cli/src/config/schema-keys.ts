import { Predicate, SchemaAST, type Schema } from "effect"
import type { KeyPath } from "./key-path.ts"

/** All object shapes that a value may have by `ast`, seen from outside (before decoding). */
const objects = (ast: SchemaAST.AST): ReadonlyArray<SchemaAST.Objects> => {
  const encoded = SchemaAST.toEncoded(ast)
  if (SchemaAST.isObjects(encoded)) return [encoded]
  if (SchemaAST.isUnion(encoded)) return encoded.types.flatMap(objects)
  return SchemaAST.isSuspend(encoded) ? objects(encoded.thunk()) : []
}

const arrays = (ast: SchemaAST.AST): ReadonlyArray<SchemaAST.Arrays> => {
  const encoded = SchemaAST.toEncoded(ast)
  if (SchemaAST.isArrays(encoded)) return [encoded]
  return SchemaAST.isUnion(encoded) ? encoded.types.flatMap(arrays) : []
}

/** The types that a value at `key` of `ast` may have. */
const children = (ast: SchemaAST.AST, key: string | number): ReadonlyArray<SchemaAST.AST> =>
  typeof key === "number"
    ? arrays(ast).flatMap((array) => array.elements[key] ?? array.rest.slice(0, 1))
    : objects(ast).flatMap((object) =>
        object.propertySignatures.filter(({ name }) => name === key).map(({ type }) => type),
      )

/** The keys that `schema` knows at `path`; nothing where any key may stand, as in the options of a plugin. */
export const knownKeys = (schema: Schema.Top, path: KeyPath): ReadonlySet<string> | undefined => {
  const types = path.reduce<ReadonlyArray<SchemaAST.AST>>(
    (asts, key) => asts.flatMap((ast) => children(ast, key)),
    [schema.ast],
  )
  const shapes = types.flatMap(objects)
  if (shapes.length === 0 || shapes.some(({ indexSignatures }) => indexSignatures.length > 0)) return undefined
  return new Set(shapes.flatMap((shape) => shape.propertySignatures.map(({ name }) => String(name))))
}

export const camelCase = (key: string): string =>
  key.replaceAll(/[_-]+([a-z0-9])/g, (_match, letter: string) => letter.toUpperCase())

/** `key` as `known` spells it: camelCase if that is known and `key` is not. */
export const knownSpelling = (key: string, known: ReadonlySet<string> | undefined): string => {
  const camel = camelCase(key)
  return known !== undefined && !known.has(key) && known.has(camel) ? camel : key
}

/**
 * A copy of `value` in which every key that `schema` knows has its camelCase spelling. Keys that it does not know stay
 * as they are, for the error that names them. `onDuplicate` hears of keys given in both spellings.
 */
export const withKnownSpellings = (
  schema: Schema.Top,
  value: unknown,
  onDuplicate: (path: KeyPath) => void,
  path: KeyPath = [],
): unknown => {
  if (Array.isArray(value)) {
    return value.map((item: unknown, index) => withKnownSpellings(schema, item, onDuplicate, [...path, index]))
  }
  if (!Predicate.isObject(value)) return value
  const known = knownKeys(schema, path)
  if (known === undefined) return value
  const result: Record<string, unknown> = {}
  for (const [key, item] of Object.entries(value)) {
    const spelling = knownSpelling(key, known)
    if (Object.hasOwn(result, spelling)) onDuplicate([...path, spelling])
    result[spelling] = withKnownSpellings(schema, item, onDuplicate, [...path, spelling])
  }
  return result
}
