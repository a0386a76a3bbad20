import { Effect, Option, Path, Schema, Stdio, Stream } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { RolloutEngine, Tokenizer, type Trajectory } from "@rlpt/core"
import { CliFailure } from "../failure.ts"
import { samplingEngines } from "../layers.ts"
import { findModel } from "../model-place.ts"
import { dim, Screen } from "../view/screen.ts"
import * as flags from "./flags.ts"

const Positive = Schema.Int.check(Schema.isGreaterThan(0))
const NonNegative = Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0))

export const generateCommand = Command.make(
  "generate",
  {
    prompt: Argument.String("prompt").pipe(
      Argument.withDescription("Text to go on from (default: what comes on standard input)"),
      Argument.optional,
    ),
    model: flags.model,
    chat: Flag.Boolean("chat").pipe(
      Flag.withDescription("Take the text as a user's message and write it with the model's chat template"),
      Flag.withDefault(false),
    ),
    system: Flag.String("system").pipe(
      Flag.withMetavar("text"),
      Flag.withDescription("System message of the chat; implies --chat"),
      Flag.optional,
    ),
    adapter: flags.adapter,
    maxCompletionLength: Flag.Int("max-completion-length").pipe(
      Flag.withSchema(Positive),
      Flag.withDescription("Most tokens of a completion (default: 128)"),
      Flag.withDefault(128),
    ),
    temperature: Flag.Finite("temperature").pipe(
      Flag.withSchema(NonNegative),
      Flag.withDescription("Divides the logits (default: 1)"),
      Flag.withDefault(1),
    ),
    greedy: Flag.Boolean("greedy").pipe(
      Flag.withDescription("Take the likeliest token each time; the same as --temperature 0"),
      Flag.withDefault(false),
    ),
    contextLength: flags.contextLength,
    seed: Flag.Int("seed").pipe(
      Flag.withSchema(Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))),
      Flag.withDescription("The same seed draws the same completions (default: 0)"),
      Flag.withDefault(0),
    ),
    count: Flag.Int("count").pipe(
      Flag.withAlias("n"),
      Flag.withSchema(Positive),
      Flag.withDescription("Number of completions (default: 1)"),
      Flag.withDefault(1),
    ),
  },
  Effect.fn(function* ({
    adapter,
    chat,
    contextLength,
    count,
    greedy,
    maxCompletionLength,
    model,
    prompt,
    seed,
    system,
    temperature,
  }) {
    const path = yield* Path.Path
    const words = yield* Option.match(prompt, { onNone: () => readPrompt, onSome: Effect.succeed })
    const place = yield* findModel({
      model: Option.getOrUndefined(model),
      root: path.resolve(),
      origin: "--model",
    })
    const generate = Effect.gen(function* () {
      const tokenizer = yield* Tokenizer
      const engine = yield* RolloutEngine
      const { text, tokens } =
        chat || Option.isSome(system)
          ? yield* tokenizer.encodePrompt([
              ...Option.toArray(system).map((content) => ({ role: "system", content })),
              { role: "user", content: words },
            ])
          : { text: words, tokens: yield* tokenizer.encode(words) }
      if (tokens.length === 0)
        return yield* new CliFailure({ message: "the prompt is empty, and the model has no start token" })
      const room = engine.contextLength - tokens.length
      if (room < 1) {
        const message = `the prompt has ${tokens.length} tokens; with a context of ${engine.contextLength} none can follow`
        return yield* new CliFailure({ message })
      }
      const trajectories = yield* Stream.runCollect(
        engine.generate({
          prompts: [{ row: 0, text, tokens, columns: {} }],
          numGenerations: count,
          sampling: {
            temperature: greedy ? 0 : temperature,
            topK: 0,
            topP: 1,
            minP: 0,
            maxCompletionLength: Math.min(maxCompletionLength, room),
            stopTokens: [],
          },
          seed,
        }),
      )
      yield* printCompletions(trajectories)
    })
    yield* generate.pipe(Effect.provide(samplingEngines(adapter, place, Option.getOrUndefined(contextLength))))
  }),
).pipe(
  Command.withDescription("Let a model go on from a prompt"),
  Command.withExamples([
    { command: 'rlpt generate "3 + 4 ="', description: "Ask the built-in model" },
    { command: 'rlpt generate --model runs/quiet-otter/model --greedy "3 + 4 ="', description: "Ask a trained one" },
    {
      command: 'rlpt generate --model ./SmolLM2-135M-Instruct --chat "What is the capital of France?"',
      description: "Ask an instruct model by its chat template",
    },
    { command: "rlpt generate -n 4 --temperature 0.7 < prompt.txt", description: "Draw four completions of a file" },
  ]),
)

const readPrompt = Effect.gen(function* () {
  const { stdin, stdinIsTerminal } = yield* Stdio.Stdio
  if (yield* stdinIsTerminal) return yield* new CliFailure({ message: 'a prompt is needed: rlpt generate "3 + 4 ="' })
  return yield* stdin.pipe(Stream.decodeText(), Stream.mkString)
})

/** One completion as it is; several in the order of their samples, each under its number. */
const printCompletions = Effect.fnUntraced(function* (trajectories: ReadonlyArray<Trajectory>) {
  const screen = yield* Screen
  for (const { completion, sample } of trajectories.toSorted((a, b) => a.sample - b.sample)) {
    if (trajectories.length > 1) yield* screen.print(dim(screen, `── ${sample + 1} ──`))
    yield* screen.print(completion)
  }
})
