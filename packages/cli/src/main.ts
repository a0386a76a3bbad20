import * as NodeServices from "@effect/platform-node/NodeServices"
import { Cause, Effect, Logger } from "effect"
import { CliConfig, CliError, CliOutput, Command, GlobalFlag } from "effect/cli"
import { rlpt } from "./commands/rlpt.ts"
import { failureMessage } from "./failure.ts"
import { helpFormatter } from "./view/help.ts"
import { version } from "./version.ts"
import { red, Screen, screenLogger } from "./view/screen.ts"

/** A mistake on the command line, in a sentence. */
const usageMessage = (error: CliError.NonShowHelpErrors): string => {
  const guess = (suggestions: ReadonlyArray<string>) =>
    suggestions[0] === undefined ? "" : `; did you mean ${suggestions[0]}?`
  switch (error._tag) {
    case "UnrecognizedOption":
      return `unknown flag ${error.option}${guess(error.suggestions)}`
    case "UnknownSubcommand":
      return `unknown command "${error.subcommand}"${guess(error.suggestions)}`
    case "InvalidValue": {
      const what = error.kind === "flag" ? `--${error.option}` : `<${error.option}>`
      const expected = error.expected
        .replace(/^(Schema validation failed: )?(Expected:? )?/, "")
        .replace(/^a string representing /, "")
      return error.value === ""
        ? `${what} needs a value: ${expected}`
        : `${what}: expected ${expected}, got "${error.value}"`
    }
    default:
      return error.message.charAt(0).toLowerCase() + error.message.slice(1)
  }
}

/** A mistake gets its message and the way to the help, which would bury it if it were printed as well. */
const presenter = CliOutput.layerPresenter({
  present: Effect.fnUntraced(function* (event) {
    if (event._tag !== "InvalidInvocation") return yield* CliOutput.defaultPresenter.present(event)
    const screen = yield* Screen
    for (const error of event.errors) yield* screen.warn(`${red(screen, "error:")} ${usageMessage(error)}`)
    yield* screen.warn(`see ${event.commandPath.join(" ")} --help`)
  }),
})

const builtIns = [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions, GlobalFlag.LogLevel]

/** Mistakes on the command line have been told by the presenter. */
const isUsage = (cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.some((reason) => Cause.isFailReason(reason) && CliError.isCliError(reason.error))

/** Whether `--log-level` asks for stacks. */
const wantsStack = (args: ReadonlyArray<string>): boolean => /--log-level[= ](debug|trace|all)\b/.test(args.join(" "))

/**
 * The command line with `args` (without the program's name). Failures are told on the error output and passed on, for
 * the exit code.
 */
export const runCli = Effect.fnUntraced(function* (args: ReadonlyArray<string>) {
  const screen = yield* Screen
  yield* Command.runWith(rlpt, { version })(args).pipe(
    Effect.tapCause((cause) => {
      const message = isUsage(cause) ? undefined : failureMessage(cause)
      if (message === undefined) return Effect.void
      const stack = wantsStack(args) ? `\n${Cause.pretty(cause)}` : ""
      return screen.warn(`${red(screen, "error:")} ${message}${stack}`)
    }),
    Effect.provide([
      presenter,
      CliOutput.layer(helpFormatter(screen)),
      CliConfig.layer({ builtIns }),
      Logger.layer([screenLogger(screen)]),
      NodeServices.layer,
    ]),
  )
})
