import { it } from "@effect/vitest"
import { Effect } from "effect"
import { TestConsole } from "effect/testing"
import { describe, expect, test } from "vitest"
import { exitOnSecondInterrupt } from "../../src/interrupt.ts"
import { version } from "../../src/version.ts"
import { withFiles } from "../support.ts"
import { cli, runProcess } from "./support.ts"

const help = Effect.fnUntraced(function* (...args: ReadonlyArray<string>) {
  yield* cli(...args)
  return (yield* TestConsole.logLines).join("\n")
})

describe("--help", () => {
  it.effect("lists the commands", () =>
    Effect.gen(function* () {
      const text = yield* help("--help")
      for (const command of ["train", "sft", "reward", "eval", "generate", "init", "plan", "doctor", "plugins"]) {
        expect(text).toMatch(new RegExp(`^  ${command} +\\w`, "m"))
      }
    }),
  )

  for (const command of [
    ["train"],
    ["sft"],
    ["reward"],
    ["eval"],
    ["generate"],
    ["init"],
    ["plan"],
    ["doctor"],
    ["plugins", "list"],
  ]) {
    it.effect(`of ${command.join(" ")} says what it does, and shows an example`, () =>
      Effect.gen(function* () {
        const text = yield* help(...command, "--help")
        expect(text).toMatch(/^[A-Z].+\n\nUsage {2}rlpt /)
        expect(text).toMatch(new RegExp(`Examples\\n {2}# .+\\n {2}rlpt ${command.join(" ")}`))
        for (const line of text.split("\n")) expect(line.length).toBeLessThan(140)
      }),
    )
  }

  it.effect("--version is the version of the package", () =>
    Effect.gen(function* () {
      expect(yield* help("--version")).toBe(`rlpt ${version}`)
    }),
  )
})

describe("a mistake on the command line is one line and the way to the help", () => {
  const cases: ReadonlyArray<readonly [string, ReadonlyArray<string>, string]> = [
    ["unknown command", ["trian"], 'error: unknown command "trian"; did you mean train?\nsee rlpt --help\n'],
    [
      "unknown flag",
      ["train", "--confg", "x"],
      "error: unknown flag --confg; did you mean --config?\nsee rlpt train --help\n",
    ],
    [
      "bad number",
      ["generate", "x", "--seed", "1.5"],
      'error: --seed: expected an integer, got "1.5"\nsee rlpt generate --help\n',
    ],
    [
      "number out of range",
      ["generate", "x", "-n", "0"],
      'error: --count: expected a value greater than 0, got "0"\nsee rlpt generate --help\n',
    ],
    ["missing value", ["train", "--config"], "error: --config needs a value: file\nsee rlpt train --help\n"],
    ["superfluous argument", ["train", "x"], 'error: unexpected positional argument: "x"\nsee rlpt train --help\n'],
  ]
  for (const [name, args, expected] of cases) {
    it.effect(name, () =>
      Effect.gen(function* () {
        const { errors, output, succeeded } = yield* cli(...args)
        expect({ errors, output, succeeded }).toEqual({ errors: expected, output: "", succeeded: false })
      }),
    )
  }
})

describe("exit codes", () => {
  it.live("0 and nothing on the error output for a success", () =>
    withFiles({}, (directory) =>
      Effect.gen(function* () {
        const { code, errors, output } = yield* runProcess(directory, "--version")
        expect({ code, errors, output }).toEqual({ code: 0, errors: "", output: `rlpt ${version}\n` })
      }),
    ),
  )

  it.live("1 and one message, without a stack, for a bad configuration", () =>
    withFiles({ "rlpt.config.yaml": "lerning_rate: 1\n" }, (directory) =>
      Effect.gen(function* () {
        const { code, errors, output } = yield* runProcess(directory, "train")
        expect({ code, errors, output }).toEqual({
          code: 1,
          errors: 'error: rlpt.config.yaml:1:1  lerning_rate: unknown key; did you mean "learningRate"?\n',
          output: "",
        })
      }),
    ),
  )

  it.live("1 for an unknown plugin, a bad option and a missing model, at their lines", () =>
    withFiles(
      { "rlpt.config.yaml": "task: arithmetc\nrewards:\n  - use: length\n    options: { foo: 1 }\n" },
      (directory) =>
        Effect.gen(function* () {
          const plugins = yield* runProcess(directory, "train")
          expect(plugins.code).toBe(1)
          expect(plugins.errors).toContain("the configuration has")
          expect(plugins.errors).toMatch(
            /rlpt\.config\.yaml:1:1 {2}task\.use: there is no task "arithmetc"; did you mean "arithmetic"/,
          )
          expect(plugins.errors).toMatch(/rlpt\.config\.yaml:4:16 {2}rewards\[0\]\.options\.foo: unknown option/)
          const model = yield* runProcess(
            directory,
            "train",
            "-s",
            "task=arithmetic",
            "-s",
            "rewards=[arithmetic]",
            "-s",
            "model=./Qwen/x",
          )
          expect(model.code).toBe(1)
          expect(model.errors).toBe(
            `error: --set model=./Qwen/x  model: ${directory}/Qwen/x is not a Hugging Face directory: it has no ` +
              "config.json with a model_type. Give the path of a downloaded model or of a run that has finished, or a " +
              "hub id such as Qwen/Qwen3-0.6B.\n",
          )
        }),
    ),
  )

  test("the second Ctrl-C ends the process at once, the first does not", () => {
    const codes: Array<number> = []
    let interrupt = (): void => {}
    exitOnSecondInterrupt({ on: (_signal, listener) => (interrupt = listener), exit: (code) => codes.push(code) })
    interrupt()
    expect(codes).toEqual([])
    interrupt()
    expect(codes).toEqual([130])
  })
})

describe("init", () => {
  it.live("writes a configuration that is valid, and never overwrites one", () =>
    withFiles({}, (directory) =>
      Effect.gen(function* () {
        expect(yield* runProcess(directory, "init")).toMatchObject({ code: 0, errors: "" })
        const written = yield* Effect.promise(() => Bun.file(`${directory}/rlpt.config.ts`).text())
        expect(written).toContain('import { defineConfig } from "rlpt"')
        expect(written).toContain("// Completions per prompt")

        // `rlpt` is not installed there: it lends itself to the file.
        const tried = yield* runProcess(directory, "train", "--set", "seed=x")
        expect(tried.errors).toBe('error: --set seed=x  seed: expected number, got "x"\n')

        const again = yield* runProcess(directory, "init")
        expect(again).toMatchObject({ code: 1, errors: "error: rlpt.config.ts exists already, and is left as it is\n" })
        expect(yield* Effect.promise(() => Bun.file(`${directory}/rlpt.config.ts`).text())).toBe(written)
      }),
    ),
  )
})

describe("plugins list", () => {
  it.effect("names the built-in plugins, for people and for programs", () =>
    Effect.gen(function* () {
      expect((yield* cli("plugins", "list")).output).toMatch(/^task +arithmetic +@rlpt\/task-arithmetic /m)
      const { plugins } = JSON.parse((yield* cli("plugins", "list", "--json")).output)
      expect(plugins).toContainEqual({
        kind: "reward",
        name: "arithmetic",
        package: "@rlpt/reward-arithmetic",
        version,
        origin: expect.stringMatching(/^(built-in|project)$/),
        usable: true,
      })
    }),
  )
})
