import { Effect, Path, type Schema } from "effect"
import { withAlgorithmDefaults } from "@rlpt/algos"
import { decodeConfig, type Decoded } from "./decode.ts"
import type { ConfigDocument } from "./document.ts"
import { quickStart } from "./quick-start.ts"
import { findConfigFile, readConfigFile } from "./read.ts"
import { camelCase } from "./schema-keys.ts"
import { RewardConfig, SftConfig, TrainConfig } from "./schema.ts"

export interface LoadOptions {
  /** Working directory. */
  readonly directory: string
  /** From `--config`; else the configuration file of `directory`, else defaults. */
  readonly file?: string | undefined
  /** The texts behind `--set`. */
  readonly set: ReadonlyArray<string>
}

/** A configuration whose relative paths have a place to start from. */
export interface Loaded<A> extends Decoded<A> {
  readonly config: A & { readonly root: string }
}

const load = Effect.fnUntraced(function* <A extends { readonly root?: string }, I>(
  schema: Schema.Codec<A, I>,
  { directory, file, set }: LoadOptions,
  {
    defaults,
    ...rest
  }: {
    /** Stands for a configuration file where there is none. */
    readonly defaults: object
    readonly foreignKey: (key: string) => string | undefined
    readonly prepare?: (value: object) => object
  },
) {
  const path = yield* Path.Path
  const found = file === undefined ? yield* findConfigFile(directory) : path.resolve(directory, file)
  const noFile: ConfigDocument = { value: defaults, locate: () => "defaults", has: () => false }
  const document = found === undefined ? noFile : yield* readConfigFile(found, shownPath(path, directory, found))
  const { config, origin } = yield* decodeConfig(schema, { document, set, ...rest })
  const start = found === undefined ? directory : path.dirname(found)
  return { config: { ...config, root: path.resolve(start, config.root ?? ".") }, origin } satisfies Loaded<A>
})

/** `file` as short as it can be said from `directory`. */
const shownPath = (path: Path.Path, directory: string, file: string): string => {
  const relative = path.relative(directory, file)
  return relative.startsWith("..") ? file : relative
}

const schemas = { train: TrainConfig, sft: SftConfig, reward: RewardConfig }

/** Explains a key that `own` lacks and another command has. */
const foreignTo = (own: keyof typeof schemas) => (key: string) => {
  const [owner] = Object.entries(schemas).find(([, { fields }]) => Object.hasOwn(fields, camelCase(key))) ?? []
  return owner === undefined ? undefined : `it belongs to rlpt ${owner}, not to rlpt ${own}`
}

/** Configuration of `rlpt train`, `eval` and `doctor`. */
export const loadTrainConfig = (options: LoadOptions) =>
  load(TrainConfig, options, {
    defaults: quickStart,
    foreignKey: foreignTo("train"),
    prepare: withAlgorithmDefaults,
  })

/** Configuration of `rlpt sft`. */
export const loadSftConfig = (options: LoadOptions) =>
  load(SftConfig, options, { defaults: {}, foreignKey: foreignTo("sft") })

/** Configuration of `rlpt reward`. */
export const loadRewardConfig = (options: LoadOptions) =>
  load(RewardConfig, options, { defaults: {}, foreignKey: foreignTo("reward") })
