import { Effect, Schema, SchemaAST } from "effect"
import { quickStart } from "./quick-start.ts"
import { TrainConfig } from "./schema.ts"

/** What to show for keys that have no default. */
const examples: Readonly<Record<string, unknown>> = {
  model: "./my-model",
  contextLength: 4096,
  criticModel: "./my-reward-model",
  lora: { r: 16, alpha: 32 },
  dtype: "bfloat16",
  runName: "first-try",
  root: ".",
  epsilonHigh: 0.28,
  delta: 4,
}

/** A new `rlpt.config.ts`: every key with its description, and its default or an example. */
export const configTemplate: Effect.Effect<string, Schema.SchemaError> = Effect.map(
  Schema.decodeEffect(TrainConfig)({}),
  (defaults) => {
    const values: Readonly<Record<string, unknown>> = { ...examples, ...defaults, ...quickStart }
    const entries = Object.entries(TrainConfig.fields).map(([key, field]) => {
      const description = SchemaAST.resolveDescription(field.ast) ?? ""
      const entry = `${key}: ${literal(values[key])},`
      return `  // ${description}\n  ${key in quickStart ? "" : "// "}${entry}`
    })
    return [
      'import { defineConfig } from "rlpt"',
      "",
      "// Every key may be left out. Those commented out show their default, or an example where there is none.",
      "export default defineConfig({",
      entries.join("\n\n"),
      "})",
      "",
    ].join("\n")
  },
)

/** `value` as TypeScript. Plugins without options shrink to their names. */
const literal = (value: unknown): string => {
  const short = Array.isArray(value) ? value.map(shorten) : shorten(value)
  return JSON.stringify(short, null, 1)
    ?.replaceAll(/\n\s*/g, " ")
    .replaceAll(/\[ | \]/g, (bracket) => bracket.trim())
}

const shorten = (value: unknown): unknown =>
  typeof value === "object" && value !== null && "use" in value ? value.use : value
