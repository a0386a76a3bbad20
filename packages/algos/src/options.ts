import { Effect, Schema } from "effect"

/**
 * The options of a training run, by TRL's names in camelCase and with TRL's meaning and defaults unless the description
 * says otherwise. Every field carries a one-line `description`, from which documentation and `rlpt init` are made.
 */

// An annotation rebuilds the same schema; generic code cannot see that `Rebuild` is the schema's own type.
const described = <S extends Schema.Top>(schema: S, description: string) =>
  (schema as Schema.Top).annotate({ description }) as S

const withDefault = <S extends Schema.Top>(schema: S, value: S["Encoded"], description: string) =>
  described(schema, description).pipe(Schema.withDecodingDefaultKey(Effect.succeed(value)))

const optional = <S extends Schema.Top>(schema: S, description: string) =>
  Schema.optionalKey(described(schema, description))

const Count = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))
const Seed = Count.check(Schema.isLessThan(2 ** 32))
const PositiveInt = Schema.Int.check(Schema.isGreaterThan(0))
const NonNegative = Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0))
const Positive = Schema.Finite.check(Schema.isGreaterThan(0))
const Fraction = Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0), Schema.isLessThanOrEqualTo(1))
const Decay = Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0), Schema.isLessThan(1))

/** Which estimator of KL(π‖ref) a KL term uses; see `kl.ts`. */
export const KlEstimator = Schema.Literals(["k1", "k2", "k3", "abs"])
export type KlEstimator = typeof KlEstimator.Type

/** How per-token losses become one number; see `aggregation.ts`. */
export const LossType = Schema.Literals(["grpo", "dr_grpo", "dapo"])
export type LossType = typeof LossType.Type

/** What GRPO divides a centred reward by. */
export const ScaleRewards = Schema.Literals(["group", "batch", "none"])
export type ScaleRewards = typeof ScaleRewards.Type

export const LrSchedulerType = Schema.Literals(["constant", "linear", "cosine"])
export type LrSchedulerType = typeof LrSchedulerType.Type

const runFields = {
  maxSteps: withDefault(PositiveInt, 100, "Steps of the whole run; a step is one batch of data."),
  seed: withDefault(Seed, 42, "Key of all randomness: data order and sampling."),
  chatTemplateKwargs: withDefault(
    Schema.Record(Schema.String, Schema.Unknown),
    {},
    "Variables for the model's chat template, such as { enable_thinking: false }.",
  ),
}

const optimizerFields = {
  lrSchedulerType: withDefault(
    LrSchedulerType,
    "linear",
    "How the learning rate falls after warm-up, towards 0 at maxSteps.",
  ),
  warmupSteps: withDefault(Count, 0, "Steps over which the learning rate rises from 0."),
  warmupRatio: withDefault(Fraction, 0, "The same as a fraction of maxSteps; set one of the two."),
  maxGradNorm: withDefault(NonNegative, 1, "Global L2 norm that a gradient is clipped to; 0 does not clip."),
  weightDecay: withDefault(NonNegative, 0, "Decoupled weight decay of AdamW."),
  adamBeta1: withDefault(Decay, 0.9, "Decay of AdamW's first moment."),
  adamBeta2: withDefault(Decay, 0.999, "Decay of AdamW's second moment."),
  adamEpsilon: withDefault(Positive, 1e-8, "Added to the denominator of AdamW."),
  microBatchSize: withDefault(
    PositiveInt,
    8,
    "Sequences in memory at once; changes memory and speed, never the gradient.",
  ),
}

const reportFields = {
  evalSteps: withDefault(Count, 0, "Evaluate before step 1, every so many steps and after the last one; 0 never does."),
  evalSize: withDefault(PositiveInt, 64, "Rows of the eval split to use, from its first one."),
  saveSteps: withDefault(
    Count,
    100,
    "Save a checkpoint every so many steps; 0 saves only at the end and on interruption.",
  ),
  saveTotalLimit: withDefault(PositiveInt, 3, "Checkpoints to keep; the oldest are deleted."),
}

const trainFields = {
  algorithm: withDefault(
    Schema.Literals(["grpo", "ppo"]),
    "grpo",
    "grpo: group baseline, no critic; ppo: critic and GAE.",
  ),
  ...runFields,

  promptsPerStep: withDefault(PositiveInt, 16, "Different prompts sampled from in one step."),
  numGenerations: withDefault(PositiveInt, 8, "Completions per prompt; the group that GRPO compares (ppo: 1)."),
  maxCompletionLength: withDefault(PositiveInt, 512, "Most tokens of a completion; a longer one is cut."),
  temperature: withDefault(Positive, 1, "Divides the logits, in sampling and in every log-probability."),
  topK: withDefault(Count, 0, "Sample among the k most likely tokens; 0 among all."),
  topP: withDefault(
    Schema.Finite.check(Schema.isGreaterThan(0), Schema.isLessThanOrEqualTo(1)),
    1,
    "Sample among the smallest set of tokens that reaches this probability.",
  ),
  minP: withDefault(Fraction, 0, "Sample among tokens at least this fraction as likely as the likeliest."),
  stop: withDefault(
    Schema.Array(Schema.String),
    [],
    "Texts that end a completion; each must be one token of the model.",
  ),

  learningRate: withDefault(NonNegative, 1e-6, "Peak learning rate of the policy (ppo: 3e-6)."),
  ...optimizerFields,
  stepsPerGeneration: withDefault(
    PositiveInt,
    1,
    "Mini-batches that a step's prompts are split into, one update each.",
  ),
  numIterations: withDefault(PositiveInt, 1, "Passes over each step's completions (ppo: 4)."),

  lossType: withDefault(
    LossType,
    "dapo",
    "Aggregation of token losses: dapo (mean of all tokens), grpo (mean of sequence means), dr_grpo (sum ÷ sequences ÷ maxCompletionLength).",
  ),
  epsilon: withDefault(Positive, 0.2, "The probability ratio is clipped below 1 − epsilon."),
  epsilonHigh: optional(Positive, "The probability ratio is clipped above 1 + epsilonHigh; epsilon if absent."),
  delta: optional(
    Positive,
    "Bound of the ratio where the advantage is negative (two-sided clipping); no bound if absent.",
  ),
  beta: withDefault(
    NonNegative,
    0,
    "Weight of KL(policy‖reference): in the loss for grpo, in the reward for ppo (0.05).",
  ),
  klEstimator: withDefault(KlEstimator, "k3", "Estimator of that KL: k1, k2, k3 or abs (ppo: k1)."),
  entropyCoef: withDefault(
    Schema.Finite,
    0,
    "Weight of the entropy bonus: the loss loses entropyCoef · mean token entropy.",
  ),
  maskTruncatedCompletions: withDefault(Schema.Boolean, false, "Leave completions that were cut out of the loss."),

  scaleRewards: withDefault(
    ScaleRewards,
    "group",
    "grpo: divide centred rewards by the deviation of the group, of the batch, or not.",
  ),

  gamma: withDefault(Fraction, 1, "ppo: discount of later rewards."),
  lam: withDefault(Fraction, 0.95, "ppo: λ of generalised advantage estimation."),
  cliprangeValue: withDefault(Positive, 0.2, "ppo: values move at most this far from the old ones in one step."),
  criticLearningRate: withDefault(NonNegative, 1e-5, "ppo: peak learning rate of the critic."),
  whitenRewards: withDefault(Schema.Boolean, false, "ppo: scale token rewards to unit variance."),
  missingEosPenalty: withDefault(NonNegative, 0, "ppo: subtracted from the score of a completion that was cut."),

  ...reportFields,
  logCompletionsSteps: withDefault(
    Count,
    10,
    "Write all completions to the sample log every so many steps; 0 never does.",
  ),
}

type TrainStruct = Schema.Struct<typeof trainFields>["Type"]

/** Options that only PPO reads, with the value that means "left alone". */
const ppoOnly = {
  gamma: 1,
  lam: 0.95,
  cliprangeValue: 0.2,
  criticLearningRate: 1e-5,
  whitenRewards: false,
  missingEosPenalty: 0,
} as const satisfies Partial<TrainStruct>

const problem = (key: string, issue: string) => ({ path: [key], issue })

const checkWarmup = (options: { readonly warmupSteps: number; readonly warmupRatio: number }) =>
  options.warmupSteps > 0 && options.warmupRatio > 0
    ? [problem("warmupRatio", "set either warmupSteps or warmupRatio, not both")]
    : []

/**
 * What is wrong between the fields of decoded options, as filter issues with the key in their path. For a schema that
 * spreads `TrainOptions.fields` into a larger one: `.check(Schema.makeFilter(checkTrainOptions))`.
 */
export const checkTrainOptions = (options: TrainStruct): ReadonlyArray<Schema.FilterIssue> => {
  const problems: Array<Schema.FilterIssue> = [...checkWarmup(options)]
  if (options.promptsPerStep % options.stepsPerGeneration !== 0) {
    problems.push(
      problem(
        "stepsPerGeneration",
        `must divide promptsPerStep (${options.promptsPerStep}), so that every mini-batch has the same number of prompts`,
      ),
    )
  }
  if (options.delta !== undefined && options.delta <= 1 + (options.epsilonHigh ?? options.epsilon)) {
    problems.push(problem("delta", "must be greater than 1 + epsilonHigh, or it would undo the upper clip"))
  }
  if (options.epsilon >= 1)
    problems.push(problem("epsilon", "must be below 1: ratios are positive, so it would clip nothing"))
  if (options.algorithm === "grpo") {
    if (options.numGenerations < 2) {
      problems.push(
        problem("numGenerations", 'must be at least 2 for "grpo", which compares completions of one prompt'),
      )
    }
    for (const [key, unset] of Object.entries(ppoOnly)) {
      if (options[key as keyof typeof ppoOnly] !== unset) {
        problems.push(problem(key, 'only algorithm "ppo" reads it'))
      }
    }
  }
  if (options.algorithm === "ppo" && options.scaleRewards !== "group") {
    problems.push(problem("scaleRewards", 'only algorithm "grpo" reads it; for "ppo" see whitenRewards'))
  }
  return problems
}

/**
 * Options of {@link train}. Decode user input with {@link withAlgorithmDefaults} applied first: some defaults depend on
 * the algorithm.
 */
export const TrainOptions = Schema.Struct(trainFields).check(Schema.makeFilter(checkTrainOptions))
export type TrainOptions = typeof TrainOptions.Type

/** Where an algorithm's customary defaults (TRL's PPO trainer) are not those of the schema. */
export const algorithmDefaults = {
  grpo: {},
  ppo: { numGenerations: 1, numIterations: 4, learningRate: 3e-6, beta: 0.05, klEstimator: "k1" },
} as const satisfies Record<TrainOptions["algorithm"], Partial<TrainOptions>>

/** `input`, with the defaults of its algorithm where it is silent. Anything that is not a known algorithm is left to decoding. */
export const withAlgorithmDefaults = <A extends object>(input: A): A => {
  const algorithm = "algorithm" in input ? input.algorithm : "grpo"
  return algorithm === "ppo" ? { ...algorithmDefaults.ppo, ...input } : input
}

const sftFields = {
  ...runFields,
  batchSize: withDefault(PositiveInt, 16, "Rows in one step."),
  maxLength: withDefault(
    PositiveInt,
    1024,
    "Most tokens of a row, at most the model's context; a longer row is cut at the end.",
  ),
  learningRate: withDefault(NonNegative, 2e-5, "Peak learning rate."),
  ...optimizerFields,
  ...reportFields,
}

/** What is wrong between the fields of decoded SFT options; see {@link checkTrainOptions}. */
export const checkSftOptions = (options: Schema.Struct<typeof sftFields>["Type"]): ReadonlyArray<Schema.FilterIssue> =>
  checkWarmup(options)

const rewardModelFields = {
  ...runFields,
  batchSize: withDefault(PositiveInt, 16, "Pairs in one step."),
  maxLength: withDefault(PositiveInt, 1024, "Most tokens of a prompt with a completion; a longer row is refused."),
  centerRewardsCoefficient: withDefault(
    NonNegative,
    0,
    "Weight of (chosen + rejected)² in the loss, which keeps rewards around zero (TRL suggests 0.01).",
  ),
  learningRate: withDefault(NonNegative, 1e-4, "Peak learning rate."),
  ...optimizerFields,
  ...reportFields,
}

/** What is wrong between the fields of a reward model's options; see {@link checkTrainOptions}. */
export const checkRewardModelOptions = (
  options: Schema.Struct<typeof rewardModelFields>["Type"],
): ReadonlyArray<Schema.FilterIssue> => checkWarmup(options)

/** Options of {@link rewardModel}. */
export const RewardModelOptions = Schema.Struct(rewardModelFields).check(Schema.makeFilter(checkRewardModelOptions))
export type RewardModelOptions = typeof RewardModelOptions.Type

/** Options of {@link sft}. */
export const SftOptions = Schema.Struct(sftFields).check(Schema.makeFilter(checkSftOptions))
export type SftOptions = typeof SftOptions.Type
