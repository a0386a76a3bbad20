import { Context, Effect, Logger } from "effect"

/** Where a command shows itself: lines that stay, and below them one line that is written over and over. */
export interface ScreenService {
  /** Columns of the terminal; nothing if the output is a file or a pipe. */
  readonly columns: () => number | undefined
  /** Whether text may carry colours. */
  readonly colors: boolean
  /** Writes a line that stays. */
  readonly print: (line: string) => Effect.Effect<void>
  /** The same, for a warning: on the error output where that is elsewhere. */
  readonly warn: (line: string) => Effect.Effect<void>
  /** Replaces the last line, on a terminal only. An empty text removes it. */
  readonly live: (line: string) => Effect.Effect<void>
}

/** The part of a `NodeJS.WriteStream` that a screen needs. */
export interface Output {
  readonly isTTY?: boolean
  readonly columns?: number
  readonly write: (text: string) => unknown
}

export interface ScreenOptions {
  readonly output: Output
  readonly errorOutput: Output
  /** Values of NO_COLOR and TERM (https://no-color.org). */
  readonly noColor?: string | undefined
  readonly term?: string | undefined
}

const eraseLine = "\r\u001b[2K"

export const makeScreen = ({ output, errorOutput, noColor, term }: ScreenOptions): ScreenService => {
  const isTerminal = output.isTTY === true && term !== "dumb"
  let lastLine = ""

  /** Writes `text` above the live line. */
  const above = (stream: Output, text: string) =>
    Effect.sync(() => {
      if (lastLine !== "") output.write(eraseLine)
      stream.write(text)
      if (lastLine !== "") output.write(lastLine)
    })

  return {
    // A terminal that does not know its width says 0.
    columns: () => (isTerminal ? output.columns || 80 : undefined),
    colors: isTerminal && (noColor === undefined || noColor === ""),
    print: (line) => above(output, `${line}\n`),
    warn: (line) => above(errorOutput, `${line}\n`),
    live: (line) =>
      Effect.sync(() => {
        if (!isTerminal || line === lastLine) return
        output.write(`${lastLine === "" ? "" : eraseLine}${line}`)
        lastLine = line
      }),
  }
}

/** The screen of the command; by default the terminal of this process. */
export const Screen: Context.Reference<ScreenService> = Context.Reference("rlpt/Screen", {
  defaultValue: () =>
    makeScreen({
      output: process.stdout,
      errorOutput: process.stderr,
      noColor: process.env["NO_COLOR"],
      term: process.env["TERM"],
    }),
})

/** Warnings and notes of the libraries, as lines of `screen`. */
export const screenLogger = (screen: ScreenService) =>
  Logger.make<unknown, void>(({ logLevel, message }) => {
    const text = [message].flat().map(String).join(" ")
    const label =
      logLevel === "Warn" ? yellow(screen, "warning:") : logLevel === "Error" ? red(screen, "error:") : undefined
    Effect.runSync(screen.warn(label === undefined ? text : `${label} ${text}`))
  })

const style = (code: number) => (screen: Pick<ScreenService, "colors">, text: string) =>
  screen.colors ? `\u001b[${code}m${text}\u001b[0m` : text

export const bold = style(1)
export const dim = style(2)
export const red = style(31)
export const green = style(32)
export const yellow = style(33)
