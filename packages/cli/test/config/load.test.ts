import { it } from "@effect/vitest"
import { Effect } from "effect"
import { describe, expect } from "vitest"
import { loadSftConfig, loadTrainConfig } from "../../src/config/load.ts"
import { withFiles } from "../support.ts"

type Files = Readonly<Record<string, string>>

const train = (files: Files, set: ReadonlyArray<string> = [], file?: string) =>
  withFiles(files, (directory) => loadTrainConfig({ directory, file, set }))

/** The whole error message, with the temporary directory called DIR. */
const trainError = (files: Files, set: ReadonlyArray<string> = [], file?: string) =>
  withFiles(files, (directory) =>
    Effect.flip(loadTrainConfig({ directory, file, set })).pipe(
      Effect.map((error) => error.message.replaceAll(directory, "DIR")),
    ),
  )

const yaml = (text: string): Files => ({ "rlpt.config.yaml": text })

describe("finding the file", () => {
  it.effect("starts from defaults where there is none", () =>
    withFiles(
      {},
      Effect.fnUntraced(function* (directory) {
        const { config } = yield* loadTrainConfig({ directory, set: [] })
        expect(config).toMatchObject({ algorithm: "grpo", task: { use: "arithmetic", options: {} }, root: directory })
        expect(config.rewards).toEqual([
          { use: "arithmetic", options: {}, weight: 1, timeout: 10, concurrency: 16, retries: 0, onError: "null" },
        ])
        expect(config.model).toBeUndefined()
      }),
    ),
  )

  it.effect("takes --config, wherever it is, and lets paths start from its folder", () =>
    withFiles(
      { "other.json": '{ "seed": 7 }' },
      Effect.fnUntraced(function* (directory) {
        const { config } = yield* loadTrainConfig({ directory: "/", file: `${directory}/other.json`, set: [] })
        expect(config).toMatchObject({ seed: 7, root: directory })
      }),
    ),
  )

  it.effect("refuses to choose between two", () =>
    Effect.gen(function* () {
      expect(yield* trainError({ "rlpt.config.yaml": "seed: 1", "rlpt.config.json": '{ "seed": 2 }' })).toBe(
        "DIR  has both rlpt.config.yaml and rlpt.config.json: choose one by --config, or remove the other",
      )
    }),
  )

  it.effect("names a file that is not there", () =>
    Effect.gen(function* () {
      expect(yield* trainError({}, [], "gone.yaml")).toBe("gone.yaml  does not exist")
    }),
  )

  it.effect("names a file of an unknown kind", () =>
    Effect.gen(function* () {
      expect(yield* trainError({ "rlpt.toml": "seed = 1" }, [], "rlpt.toml")).toBe(
        "rlpt.toml  is neither .ts, .yaml nor .json",
      )
    }),
  )
})

describe("YAML", () => {
  it.effect("takes camelCase and snake_case, plugins by name or with options", () =>
    Effect.gen(function* () {
      const { config } = yield* train(
        yaml(`
num_generations: 4
learningRate: 1e-5
task: { use: gsm8k, options: { split_name: main } }
rewards:
  - math
  - { use: ./brevity.ts, weight: 0.5, on_error: fail }
`),
      )
      expect(config).toMatchObject({
        numGenerations: 4,
        learningRate: 1e-5,
        // The keys of plugin options are the plugin's own.
        task: { use: "gsm8k", options: { split_name: "main" } },
        rewards: [
          { use: "math", weight: 1 },
          { use: "./brevity.ts", weight: 0.5, onError: "fail" },
        ],
      })
    }),
  )

  it.effect("names file, line, column, key path and the likely key for an unknown one", () =>
    Effect.gen(function* () {
      expect(yield* trainError(yaml("seed: 1\nlerning_rate: 1\n"))).toBe(
        'rlpt.config.yaml:2:1  lerning_rate: unknown key; did you mean "learningRate"?',
      )
    }),
  )

  it.effect("guesses nothing for a key that is like no other", () =>
    Effect.gen(function* () {
      expect(yield* trainError(yaml("quux: 1"))).toBe("rlpt.config.yaml:1:1  quux: unknown key")
    }),
  )

  it.effect("names the expected type and what was there instead", () =>
    Effect.gen(function* () {
      expect(yield* trainError(yaml("seed: 1\nnum_generations: eight\n"))).toBe(
        'rlpt.config.yaml:2:1  numGenerations: expected number, got "eight"',
      )
    }),
  )

  it.effect("lists all problems at once, in the order of the file", () =>
    Effect.gen(function* () {
      expect(
        yield* trainError(
          yaml(`algorithm: gppo
rewards:
  - math
  - use: format
    weigth: 2
    weight: heavy
  - 3
temperature: 0
maxSteps: 1.5
seed:
topP: 2
`),
        ),
      ).toBe(`the configuration has 8 problems
  rlpt.config.yaml:1:1  algorithm: expected "grpo" | "ppo", got "gppo"
  rlpt.config.yaml:5:5  rewards[1].weigth: unknown key; did you mean "weight"?
  rlpt.config.yaml:6:5  rewards[1].weight: expected number, got "heavy"
  rlpt.config.yaml:7:5  rewards[2]: expected object | string, got 3
  rlpt.config.yaml:8:1  temperature: expected a value greater than 0, got 0
  rlpt.config.yaml:9:1  maxSteps: expected an integer, got 1.5
  rlpt.config.yaml:10:1  seed: expected number, got null
  rlpt.config.yaml:11:1  topP: expected a value less than or equal to 1, got 2`)
    }),
  )

  it.effect("finds what is wrong between keys", () =>
    Effect.gen(function* () {
      expect(yield* trainError(yaml("algorithm: grpo\ngamma: 0.5\n"))).toBe(
        'rlpt.config.yaml:2:1  gamma: only algorithm "ppo" reads it',
      )
    }),
  )

  it.effect("refuses a key in both spellings", () =>
    Effect.gen(function* () {
      expect(yield* trainError(yaml("max_steps: 1\nmaxSteps: 2\n"))).toBe(
        "rlpt.config.yaml:1:1  maxSteps: given twice, in camelCase and in snake_case",
      )
    }),
  )

  it.effect("points at a missing key's surroundings", () =>
    Effect.gen(function* () {
      expect(yield* trainError(yaml("rewards:\n  - weight: 2\n"))).toBe(
        "rlpt.config.yaml:2:5  rewards[0].use: is required",
      )
    }),
  )

  it.effect("points at a syntax error", () =>
    Effect.gen(function* () {
      expect(yield* trainError(yaml("seed: 1\nrewards: [math\n"))).toContain("rlpt.config.yaml:3:1  Flow sequence")
    }),
  )

  it.effect("wants keys and values", () =>
    Effect.gen(function* () {
      expect(yield* trainError(yaml("just a text"))).toBe(
        "rlpt.config.yaml:1:1  expected keys with values, such as seed: 1",
      )
    }),
  )

  it.effect("knows the keys of the other command", () =>
    Effect.gen(function* () {
      expect(yield* trainError(yaml("batch_size: 4"))).toBe(
        "rlpt.config.yaml:1:1  batch_size: unknown key: it belongs to rlpt sft, not to rlpt train",
      )
      const error = yield* withFiles(yaml("algorithm: grpo"), (directory) =>
        Effect.flip(loadSftConfig({ directory, set: [] })),
      )
      expect(error.message).toBe(
        "rlpt.config.yaml:1:1  algorithm: unknown key: it belongs to rlpt train, not to rlpt sft",
      )
    }),
  )
})

describe("JSON", () => {
  const json = (text: string): Files => ({ "rlpt.config.json": text })

  it.effect("has the positions of YAML, tabs or not", () =>
    Effect.gen(function* () {
      expect(yield* trainError(json('{\n\t"seed": 1,\n\t"numGeneration": 4\n}\n'))).toBe(
        'rlpt.config.json:3:2  numGeneration: unknown key; did you mean "numGenerations"?',
      )
    }),
  )

  it.effect("refuses a key that is there twice", () =>
    Effect.gen(function* () {
      expect(yield* trainError(json('{\n  "seed": 1,\n  "seed": 2\n}'))).toBe(
        "rlpt.config.json:3:3  Map keys must be unique",
      )
    }),
  )
})

describe("TypeScript", () => {
  const ts = (text: string): Files => ({ "rlpt.config.ts": text })

  it.effect("is the default export", () =>
    Effect.gen(function* () {
      const { config } = yield* train(ts("export default { seed: 3, task: 'gsm8k' as const }"))
      expect(config).toMatchObject({ seed: 3, task: { use: "gsm8k" } })
    }),
  )

  it.effect("names file and key path", () =>
    Effect.gen(function* () {
      expect(yield* trainError(ts("export default { seed: '3', rewards: [{ use: 'math', wieght: 1 }] }"))).toBe(
        `the configuration has 2 problems
  rlpt.config.ts  rewards[0].wieght: unknown key; did you mean "weight"?
  rlpt.config.ts  seed: expected number, got "3"`,
      )
    }),
  )

  it.effect("says so when there is no default export", () =>
    Effect.gen(function* () {
      expect(yield* trainError(ts("export const config = {}"))).toBe(
        "rlpt.config.ts  has no default export: write `export default defineConfig({ … })`",
      )
    }),
  )

  it.effect("passes on what it throws", () =>
    Effect.gen(function* () {
      expect(yield* trainError(ts("throw new Error('no token in the environment')"))).toBe(
        "rlpt.config.ts  cannot be imported: no token in the environment",
      )
    }),
  )
})

describe("--set", () => {
  it.effect("overrides the file, makes what is missing, and the last one wins", () =>
    Effect.gen(function* () {
      const { config } = yield* train(yaml("learning_rate: 1e-5\ntask: gsm8k\nrewards: [math]\n"), [
        "learning_rate=2e-5",
        "learningRate=3e-5",
        "task.options.limit=10",
        "rewards[0].weight=2",
        "rewards[1]=format",
        "checkpoint.options={ path: here }",
        "stop=[a, 'b']",
      ])
      expect(config).toMatchObject({
        learningRate: 3e-5,
        task: { use: "gsm8k", options: { limit: 10 } },
        rewards: [
          { use: "math", weight: 2 },
          { use: "format", weight: 1 },
        ],
        checkpoint: { use: "local", options: { path: "here" } },
        stop: ["a", "b"],
      })
    }),
  )

  it.effect("is named by the problems that it brings, and no file is", () =>
    Effect.gen(function* () {
      expect(
        yield* trainError(yaml("seed: 1\nrewards: [math]\n"), [
          "seed=x",
          "bta=1",
          "foo.bar=1",
          "rewards[5]=math",
          "seed.a=1",
          "oops",
          "epsilon=[1",
          "=3",
        ]),
      ).toBe(`the configuration has 8 problems
  --set =3  expected key=value, as in --set beta=0.04 or --set rewards[0].weight=2
  --set bta=1  bta: unknown key; did you mean "beta"?
  --set epsilon=[1  the value is not YAML: Flow sequence must end with a ]
  --set foo.bar=1  foo: unknown key
  --set oops  expected key=value, as in --set beta=0.04 or --set rewards[0].weight=2
  --set rewards[5]=math  rewards has 1 items, so there is no [5]
  --set seed.a=1  seed is not an object
  --set seed=x  seed: expected number, got "x"`)
    }),
  )

  it.effect("takes an adapter by PEFT's names, or which weights to train, and not both", () =>
    Effect.gen(function* () {
      const adapted = yield* train(yaml("lora: { r: 4, target_modules: [q_proj, v_proj], use_rslora: true }"))
      expect(adapted.config.lora).toEqual({
        r: 4,
        alpha: 32,
        dropout: 0,
        targetModules: ["q_proj", "v_proj"],
        useRslora: true,
        useDora: false,
      })
      expect(adapted.config.trainable).toBe("all")
      expect((yield* train(yaml("trainable: { layers: [-2, -1] }"))).config.trainable).toEqual({ layers: [-2, -1] })
      expect((yield* train(yaml("trainable: [norm]"))).config.lora).toBeUndefined()
      expect(yield* trainError(yaml("lora: {}\ntrainable: norm"))).toBe(
        "rlpt.config.yaml:2:1  trainable: with lora the adapter alone is trained: leave one of the two out",
      )
      expect(yield* trainError(yaml("lora:\n  rank: 3\n  r: 0"))).toMatch(
        /rlpt.config.yaml:2:3 {2}lora.rank: unknown key[^]*rlpt.config.yaml:3:3 {2}lora.r: expected/,
      )
    }),
  )

  it.effect("settles an algorithm's own defaults", () =>
    Effect.gen(function* () {
      const { config } = yield* train(yaml("beta: 0.01"), ["algorithm=ppo"])
      expect(config).toMatchObject({ algorithm: "ppo", numGenerations: 1, numIterations: 4, beta: 0.01 })
    }),
  )
})

describe("origin", () => {
  it.effect("finds the line of a value, for errors found later", () =>
    Effect.gen(function* () {
      const { origin } = yield* train(yaml("seed: 1\ntask:\n  use: gsm8k\n  options:\n    limit: 3\n"), ["beta=0.1"])
      expect(origin(["task", "options", "limit"])).toBe("rlpt.config.yaml:5:5")
      expect(origin(["task", "options", "size"])).toBe("rlpt.config.yaml:4:3")
      expect(origin(["beta"])).toBe("--set beta=0.1")
    }),
  )
})
