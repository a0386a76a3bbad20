import { Schema } from "effect"

const isPattern = Schema.makeFilter((source: string) => {
  try {
    return RegExp(source, "u") instanceof RegExp
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
})

/** Either a pattern or tags. */
export const FormatOptions = Schema.Struct({
  /** Regular expression (JavaScript, Unicode mode) that matches somewhere; `^` and `$` tie it to the ends. */
  pattern: Schema.optionalKey(Schema.String.check(isPattern)),
  /** Names of the tags that the completion is made of, in order. */
  tags: Schema.optionalKey(Schema.NonEmptyArray(Schema.String.check(Schema.isPattern(/^[\w-]+$/)))),
}).check(
  Schema.makeFilter(
    ({ pattern, tags }) => (pattern === undefined) !== (tags === undefined) || `Expected "pattern" or "tags"`,
  ),
)
