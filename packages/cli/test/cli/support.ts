import { fileURLToPath } from "node:url"
import { Effect, Exit, FileSystem, Schedule } from "effect"
import { runCli } from "../../src/main.ts"
import { makeScreen, Screen } from "../../src/view/screen.ts"

/** What a command wrote, and whether it succeeded. */
export interface Outcome {
  readonly output: string
  readonly errors: string
  readonly succeeded: boolean
}

/** Runs the command line in this process. Help texts go to the console and are not part of the outcome. */
export const cli = Effect.fnUntraced(function* (...args: ReadonlyArray<string>) {
  const output: Array<string> = []
  const errors: Array<string> = []
  const screen = makeScreen({
    output: { write: (text) => output.push(text) },
    errorOutput: { write: (text) => errors.push(text) },
  })
  const exit = yield* Effect.exit(runCli(args).pipe(Effect.provideService(Screen, screen)))
  return { output: output.join(""), errors: errors.join(""), succeeded: Exit.isSuccess(exit) } satisfies Outcome
})

const bin = fileURLToPath(new URL("../../src/bin.ts", import.meta.url))

/** Starts `rlpt` as a process of its own in `directory`. */
export const spawnCli = (directory: string, ...args: ReadonlyArray<string>) =>
  Bun.spawn({
    cmd: [process.execPath, bin, ...args],
    cwd: directory,
    env: { ...process.env, NO_COLOR: "1" },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  })

/** Runs `rlpt` as a process of its own, to its end. */
export const runProcess = (directory: string, ...args: ReadonlyArray<string>) =>
  Effect.promise(async () => {
    const child = spawnCli(directory, ...args)
    const [output, errors, code] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ])
    // Dawn greets every device on the error output.
    const told = errors.split("\n").filter((line) => !line.startsWith("Warning: maxDynamic"))
    return { output, errors: told.join("\n"), code }
  })

/** Waits until the run's metrics tell of `step`. */
export const untilStep = Effect.fnUntraced(function* (run: string, step: number) {
  const fs = yield* FileSystem.FileSystem
  yield* fs.readFileString(`${run}/metrics.jsonl`).pipe(
    Effect.filterOrFail((text) => text.includes(`"step":${step},`)),
    Effect.retry(Schedule.spaced("5 millis")),
    Effect.timeout("30 seconds"),
  )
})
