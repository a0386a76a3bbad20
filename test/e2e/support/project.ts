import { createHash } from "node:crypto"
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { tinyModelFiles } from "./model.ts"

/** The command line of this repository, as people start it. */
export const bin = join(import.meta.dirname, "../../../packages/cli/src/bin.ts")

/** What a command said and how it ended. */
export interface Outcome {
  readonly code: number
  readonly output: string
  /** The error output, without the greeting of the GPU library and the note that a CPU does its work. */
  readonly errors: string
}

const greeting = /^(Warning: maxDynamic|warning: a CPU does the work of a GPU)/

/** A folder with a configuration and a tiny model, in which commands run. */
export class Project {
  readonly directory = realpathSync(mkdtempSync(join(tmpdir(), "rlpt-e2e-")))

  constructor(files: Readonly<Record<string, string | Uint8Array>> = {}) {
    this.write(files)
  }

  path(...parts: ReadonlyArray<string>): string {
    return join(this.directory, ...parts)
  }

  write(files: Readonly<Record<string, string | Uint8Array>>): void {
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(dirname(this.path(name)), { recursive: true })
      writeFileSync(this.path(name), content)
    }
  }

  /** A tiny model in the folder `name`. `changes` go into its config.json, `files` replace its files. */
  writeModel(name: string, changes: object = {}, files: Readonly<Record<string, Uint8Array>> = {}): void {
    const all = Object.entries({ ...tinyModelFiles(changes), ...files })
    this.write(Object.fromEntries(all.map(([file, bytes]) => [`${name}/${file}`, bytes])))
  }

  spawn(...args: ReadonlyArray<string>) {
    return this.spawnWith({}, process.execPath, bin, ...args)
  }

  spawnWith(env: Readonly<Record<string, string>>, ...cmd: ReadonlyArray<string>) {
    return Bun.spawn({
      cmd: [...cmd],
      cwd: this.directory,
      env: { ...process.env, NO_COLOR: "1", ...env },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    })
  }

  /** Runs `rlpt` to its end. */
  rlpt(...args: ReadonlyArray<string>): Promise<Outcome> {
    return outcome(this.spawn(...args))
  }

  run(name: string): Run {
    return new Run(this.path("runs", name))
  }

  /** Names of the runs there are. */
  get runs(): ReadonlyArray<string> {
    return existsSync(this.path("runs")) ? readdirSync(this.path("runs")) : []
  }

  dispose(): void {
    rmSync(this.directory, { recursive: true, force: true })
  }
}

export const outcome = async (child: ReturnType<Project["spawn"]>): Promise<Outcome> => {
  const texts = [new Response(child.stdout).text(), new Response(child.stderr).text()] as const
  const [output, errors] = await Promise.all(texts)
  const told = errors.split("\n").filter((line) => !greeting.test(line))
  return { code: await child.exited, output, errors: told.join("\n") }
}

export type MetricsLine = Readonly<Record<string, number>> & { readonly step: number }

/** What a run left on disk. */
export class Run {
  constructor(readonly path: string) {}

  file(...parts: ReadonlyArray<string>): string {
    return join(this.path, ...parts)
  }

  json(...parts: ReadonlyArray<string>): unknown {
    return JSON.parse(readFileSync(this.file(...parts), "utf8"))
  }

  lines(...parts: ReadonlyArray<string>): ReadonlyArray<unknown> {
    const text = readFileSync(this.file(...parts), "utf8")
    return text
      .split("\n")
      .filter((line) => line !== "")
      .map((line): unknown => JSON.parse(line))
  }

  get metrics(): ReadonlyArray<MetricsLine> {
    return this.lines("metrics.jsonl") as ReadonlyArray<MetricsLine>
  }

  /** The last step in the log; −1 before there is any. Safe to ask while the run goes on. */
  get lastStep(): number {
    if (!existsSync(this.file("metrics.jsonl"))) return -1
    const whole = readFileSync(this.file("metrics.jsonl"), "utf8").split("\n").slice(0, -1)
    return whole.length === 0 ? -1 : (JSON.parse(whole.at(-1)!) as MetricsLine).step
  }

  get checkpoints(): ReadonlyArray<number> {
    if (!existsSync(this.file("checkpoints"))) return []
    const steps = readdirSync(this.file("checkpoints")).map((name) => Number(/^step-(\d+)$/.exec(name)?.[1]))
    return steps.filter(Number.isInteger).toSorted((a, b) => a - b)
  }

  /** Every file below `folder`, by its path. */
  files(folder = ""): ReadonlyArray<string> {
    const entries = readdirSync(this.file(folder), { recursive: true, withFileTypes: true })
    return entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(this.path.length + 1))
      .toSorted()
  }

  /** SHA-256 of all that must not depend on when a run was stopped: metrics, samples, newest checkpoint, model. */
  get fingerprint(): Readonly<Record<string, string>> {
    const newest = `checkpoints/step-${this.checkpoints.at(-1)}/`
    const stable = this.files().filter(
      (file) => file === "metrics.jsonl" || /^(samples|model)\//.test(file) || file.startsWith(newest),
    )
    return Object.fromEntries(stable.map((file) => [file, sha256(readFileSync(this.file(file)))]))
  }

  /** Waits until the log tells of `step`, or `child` has ended. */
  async until(step: number, child: { readonly exitCode: number | null; readonly signalCode: unknown }): Promise<void> {
    while (this.lastStep < step && child.exitCode === null && child.signalCode === null) await sleep(2)
  }
}

export const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex")
