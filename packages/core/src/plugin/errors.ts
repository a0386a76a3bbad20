import { Schema } from "effect"

/** No plugin answers to the name, or the file is not there. */
export class PluginNotFound extends Schema.TaggedError<PluginNotFound>()("PluginNotFound", {
  message: Schema.String,
  /** Names that look alike, the likeliest first. */
  suggestions: Schema.Array(Schema.String),
}) {}

/** The package is installed, but only because another one needs it: the project never asked for its code. */
export class PluginNotAllowed extends Schema.TaggedError<PluginNotAllowed>()("PluginNotAllowed", {
  message: Schema.String,
}) {}

/** The plugin threw while it was imported or started, or its manifest cannot be read. */
export class PluginLoadFailed extends Schema.TaggedError<PluginLoadFailed>()("PluginLoadFailed", {
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {}

/** The package has no manifest, or its default export is not a plugin of the kind and name that were asked for. */
export class NotAPlugin extends Schema.TaggedError<NotAPlugin>()("NotAPlugin", { message: Schema.String }) {}

/** The plugin was written for another version of the contract. */
export class PluginApiMismatch extends Schema.TaggedError<PluginApiMismatch>()("PluginApiMismatch", {
  message: Schema.String,
  api: Schema.Unknown,
}) {}

/** Two dependencies provide the same kind and name. */
export class DuplicatePlugin extends Schema.TaggedError<DuplicatePlugin>()("DuplicatePlugin", {
  message: Schema.String,
  packages: Schema.Array(Schema.String),
}) {}

/** The plugin refused its options. */
export class BadPluginOptions extends Schema.TaggedError<BadPluginOptions>()("BadPluginOptions", {
  message: Schema.String,
  /** One line for each problem, as `rewards[0].options.weight: Expected number`. */
  problems: Schema.Array(Schema.String),
}) {}

export type PluginError =
  | PluginNotFound
  | PluginNotAllowed
  | PluginLoadFailed
  | NotAPlugin
  | PluginApiMismatch
  | DuplicatePlugin
  | BadPluginOptions

/** What a thrown value says for itself. */
export const causeMessage = (cause: unknown): string => {
  if (typeof cause === "object" && cause !== null && "message" in cause && String(cause.message) !== "") {
    return String(cause.message)
  }
  return cause instanceof Error ? cause.name : String(cause)
}
