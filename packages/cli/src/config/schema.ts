import { Effect, Schema, SchemaTransformation } from "effect"
import {
  checkRewardModelOptions,
  checkSftOptions,
  checkTrainOptions,
  RewardModelOptions,
  SftOptions,
  TrainOptions,
} from "@rlpt/algos"
import { RewardSettings } from "@rlpt/core"
import { checkTrained, trainedFields } from "./trained.ts"

const withDefault = <S extends Schema.Top>(schema: S, value: S["Encoded"]) =>
  schema.pipe(Schema.withDecodingDefaultKey(Effect.succeed(value)))

const Options = withDefault(Schema.Record(Schema.String, Schema.Unknown), {}).annotate({
  description: "Options of the plugin, as its README lists them.",
})

const PluginUse = Schema.Struct({ use: Schema.NonEmptyString, options: Options })

/** A plugin with a default, whose options can then be set without naming it. */
const pluginUse = (standard: string) =>
  Schema.Struct({ ...PluginUse.fields, use: withDefault(Schema.NonEmptyString, standard) })

const RewardUse = Schema.Struct({
  use: Schema.NonEmptyString,
  /** What metrics and samples call it; the plugin's own name if absent. */
  name: Schema.optionalKey(Schema.NonEmptyString),
  options: Options,
  ...RewardSettings.fields,
})

/** Lets a plugin be named by a string alone: `task: gsm8k` for `task: { use: gsm8k }`. */
const orShort = <A, I extends { readonly use?: string }>(use: Schema.Codec<A, I>) => {
  // Sound for the schemas above: none of them requires another key than `use`.
  const decode = (name: string) => ({ use: name }) as I
  const short = SchemaTransformation.transform({ decode, encode: ({ use: name = "" }: I) => name })
  return Schema.Union([use, Schema.NonEmptyString.pipe(Schema.decodeTo(use, short))])
}

/** What a run has besides the options of its algorithm. */
const runFields = {
  model: Schema.optionalKey(Schema.NonEmptyString).annotate({
    description:
      "Model to start from: a Hugging Face directory, a .gguf file, a hub id, a run or an adapter; the small built-in one if absent.",
  }),
  contextLength: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThan(0))).annotate({
    description: "Most tokens of a prompt with its completion; what the model was trained for if absent.",
  }),
  ...trainedFields,
  task: withDefault(orShort(pluginUse("arithmetic")), "arithmetic").annotate({
    description: "Where prompts come from.",
  }),
  checkpoint: withDefault(orShort(pluginUse("local")), "local").annotate({
    description: "Where checkpoints are kept.",
  }),
  trackers: withDefault(Schema.Array(orShort(PluginUse)), []).annotate({
    description: "Who hears of metrics and samples besides the files of the run.",
  }),
  adapter: withDefault(Schema.Literals(["auto", "gpu", "lavapipe", "swiftshader"]), "auto").annotate({
    description: "What computes; auto takes a GPU if there is one.",
  }),
  runName: Schema.optionalKey(Schema.NonEmptyString).annotate({ description: "Name of the run; picked if absent." }),
  outputDir: withDefault(Schema.NonEmptyString, "runs").annotate({
    description: "Folder of all runs, from the working directory.",
  }),
  root: Schema.optionalKey(Schema.NonEmptyString).annotate({
    description: "Folder that the other relative paths start from; that of the configuration file if absent.",
  }),
}

const checkCritic = (config: { readonly algorithm: string; readonly criticModel?: string }): Schema.FilterIssue[] =>
  config.criticModel !== undefined && config.algorithm !== "ppo"
    ? [{ path: ["criticModel"], issue: 'only algorithm "ppo" has a critic' }]
    : []

/** Configuration of `rlpt train`. */
export const TrainConfig = Schema.Struct({
  ...runFields,
  criticModel: Schema.optionalKey(Schema.NonEmptyString).annotate({
    description: "ppo: model that the critic starts from, such as a reward model; the policy's if absent.",
  }),
  rewards: withDefault(Schema.NonEmptyArray(orShort(RewardUse)), ["arithmetic"]).annotate({
    description: "What scores completions; the weighted sum counts.",
  }),
  ...TrainOptions.fields,
}).check(Schema.makeFilter((config) => [...checkTrained(config), ...checkCritic(config), ...checkTrainOptions(config)]))
export type TrainConfig = typeof TrainConfig.Type

/** Configuration of `rlpt sft`. */
export const SftConfig = Schema.Struct({
  ...runFields,
  fromScratch: withDefault(Schema.Boolean, false).annotate({
    description: "Draw fresh weights for the model's config.json instead of reading its weights.",
  }),
  ...SftOptions.fields,
}).check(Schema.makeFilter((config) => [...checkTrained(config), ...checkSftOptions(config)]))
export type SftConfig = typeof SftConfig.Type

/** Configuration of `rlpt reward`. */
export const RewardConfig = Schema.Struct({ ...runFields, ...RewardModelOptions.fields }).check(
  Schema.makeFilter((config) => [
    ...checkTrained(config),
    ...checkRewardModelOptions(config),
    ...((config.lora?.dropout ?? 0) > 0
      ? [{ path: ["lora", "dropout"], issue: "rewards are compared as they are: a reward model takes none" }]
      : []),
  ]),
)
export type RewardConfig = typeof RewardConfig.Type

/** Configuration of any command that trains. */
export type TrainingConfig = TrainConfig | SftConfig | RewardConfig
