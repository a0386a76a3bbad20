import { Schema } from "effect"
import { Flag } from "effect/cli"

/** Flags that several commands share. */

export const config = Flag.String("config").pipe(
  Flag.withAlias("c"),
  Flag.withMetavar("file"),
  Flag.withDescription("Configuration: .ts, .yaml or .json (default: rlpt.config.* here)"),
  Flag.optional,
)

export const set = Flag.String("set").pipe(
  Flag.withAlias("s"),
  Flag.withMetavar("key=value"),
  Flag.withDescription("Override a key, as in --set rewards[0].weight=2; may be repeated"),
  Flag.atLeast(0),
)

export const resume = Flag.String("resume").pipe(
  Flag.withMetavar("run"),
  Flag.withDescription("Go on with a run, by its name or folder"),
  Flag.optional,
)

export const runName = Flag.String("run-name").pipe(
  Flag.withMetavar("name"),
  Flag.withDescription("Name of the new run (default: two words)"),
  Flag.optional,
)

export const model = Flag.String("model").pipe(
  Flag.withAlias("m"),
  Flag.withMetavar("folder"),
  Flag.withDescription("Model or run to use (default: the built-in model)"),
  Flag.optional,
)

export const contextLength = Flag.Int("context-length").pipe(
  Flag.withMetavar("tokens"),
  Flag.withSchema(Schema.Int.check(Schema.isGreaterThan(0))),
  Flag.withDescription("Most tokens of prompt and completion (default: what the model was trained for)"),
  Flag.optional,
)

export const adapter = Flag.Literals("adapter", ["auto", "gpu", "lavapipe", "swiftshader"]).pipe(
  Flag.withDescription("What computes (default: a GPU if there is one)"),
  Flag.withDefault("auto"),
)

export const json = Flag.Boolean("json").pipe(Flag.withDescription("Print JSON"), Flag.withDefault(false))
