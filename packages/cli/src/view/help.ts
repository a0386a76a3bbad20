import { Option } from "effect"
import { CliOutput, type HelpDoc } from "effect/cli"
import { bold, dim, green, type ScreenService } from "./screen.ts"

interface Row {
  readonly left: string
  readonly right: string
}

/** How `--help` and `--version` look. */
export const helpFormatter = (screen: ScreenService): CliOutput.Formatter => {
  const section = (title: string, rows: ReadonlyArray<Row>): string => {
    const width = Math.max(...rows.map(({ left }) => left.length)) + 3
    const lines = rows.map(({ left, right }) => `  ${green(screen, left)}${" ".repeat(width - left.length)}${right}`)
    return [bold(screen, title), ...lines].join("\n")
  }

  const examples = (docs: ReadonlyArray<HelpDoc.ExampleDoc>): string =>
    [
      bold(screen, "Examples"),
      ...docs.flatMap(({ command, description }) => [
        ...(description === undefined ? [] : [`  ${dim(screen, `# ${description}`)}`]),
        `  ${command}`,
      ]),
    ].join("\n")

  return {
    ...CliOutput.defaultFormatter({ colors: screen.colors }),
    formatVersion: (name, version) => `${name} ${version}`,
    formatHelpDoc: ({
      args = [],
      description,
      examples: docs = [],
      flags,
      globalFlags = [],
      subcommands = [],
      usage,
    }) => {
      const commands = subcommands.flatMap((group) => group.commands)
      return [
        description,
        `${bold(screen, "Usage")}  ${usage}`,
        ...(commands.length > 0 ? [section("Commands", commands.map(commandRow))] : []),
        ...(args.length > 0 ? [section("Arguments", args.map(argumentRow))] : []),
        ...(flags.length > 0 ? [section("Flags", flags.map(flagRow))] : []),
        ...(globalFlags.length > 0 ? [section("Everywhere", globalFlags.map(flagRow))] : []),
        ...(docs.length > 0 ? [examples(docs)] : []),
      ].join("\n\n")
    },
  }
}

const commandRow = ({ description, name }: HelpDoc.SubcommandDoc): Row => ({ left: name, right: description })

const argumentRow = ({ description, name }: HelpDoc.ArgDoc): Row => ({
  left: name,
  right: Option.getOrElse(description, () => ""),
})

/** Choices follow the description, where effect puts them; there is no need for them in the name as well. */
const flagRow = ({ aliases, description, name, type }: HelpDoc.FlagDoc): Row => ({
  left: [[`--${name}`, ...aliases].join(", "), type === "boolean" || type.includes("|") ? "" : type].join(" ").trim(),
  right: Option.getOrElse(description, () => ""),
})
