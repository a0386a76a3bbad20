import { it } from "@effect/vitest"
import { Effect, FileSystem } from "effect"
import { describe, expect, test } from "vitest"
import { createRun, openRun } from "../../src/run-directory/run-directory.ts"
import { runNameProblem, runNames } from "../../src/run-directory/run-name.ts"
import { inTemporaryDirectory } from "./support.ts"

const config = { algorithm: "grpo", learningRate: 1e-6 }

describe("run names", () => {
  const take = (key: string, count: number) => {
    const names = runNames(key)
    return Array.from({ length: count }, () => names.next().value)
  }

  test("are the same for the same configuration, and others for another", () => {
    expect(take("a", 5)).toEqual(take("a", 5))
    expect(take("a", 5)).not.toEqual(take("b", 5))
  })

  test("never repeat, even after all pairs of words are used", () => {
    const names = take("a", 2 * 4096)
    expect(new Set(names).size).toBe(names.length)
    expect(names.slice(0, 4096).every((name) => /^[a-z]+-[a-z]+$/.test(name))).toBe(true)
    expect(names[4096]).toBe(`${names[0]}-2`)
  })

  test.each(["a/b", "..", "", ".hidden", "-rf", "a b", "ü", "x".repeat(101)])("may not be %j", (name) => {
    expect(runNameProblem(name)).toContain("cannot name a run")
  })
})

describe("createRun", () => {
  it.effect("writes the configuration into a new folder", () =>
    inTemporaryDirectory(
      Effect.fnUntraced(function* (directory) {
        const fs = yield* FileSystem.FileSystem
        const run = yield* createRun({ outputDir: `${directory}/runs`, name: "first", config })
        expect(run.path).toBe(`${directory}/runs/first`)
        expect(JSON.parse(yield* fs.readFileString(`${run.path}/config.json`))).toEqual(config)
      }),
    ),
  )

  it.effect("picks the next free name when it may choose", () =>
    inTemporaryDirectory(
      Effect.fnUntraced(function* (outputDir) {
        const names = runNames(`${JSON.stringify(config, null, 2)}\n`)
        const expected = [names.next().value, names.next().value]
        const runs = [yield* createRun({ outputDir, config }), yield* createRun({ outputDir, config })]
        expect(runs.map(({ name }) => name)).toEqual(expected)
      }),
    ),
  )

  it.effect("refuses a name that is taken, and says how to go on with it", () =>
    inTemporaryDirectory(
      Effect.fnUntraced(function* (outputDir) {
        yield* Effect.scoped(createRun({ outputDir, name: "mine", config }))
        const error = yield* Effect.flip(createRun({ outputDir, name: "mine", config }))
        expect(error.message).toBe(
          "run mine exists already: go on with it by --resume mine, or choose another --run-name",
        )
      }),
    ),
  )

  it.effect("leaves nothing but the run, whether it was made or refused", () =>
    inTemporaryDirectory(
      Effect.fnUntraced(function* (outputDir) {
        const fs = yield* FileSystem.FileSystem
        yield* Effect.scoped(createRun({ outputDir, name: "mine", config }))
        yield* Effect.flip(createRun({ outputDir, name: "mine", config }))
        expect(yield* fs.readDirectory(outputDir)).toEqual(["mine"])
      }),
    ),
  )

  it.effect("takes the folder back when the run fails before its first metrics, and not after", () =>
    inTemporaryDirectory(
      Effect.fnUntraced(function* (outputDir) {
        const fs = yield* FileSystem.FileSystem
        const failingRun = (metrics: boolean) =>
          Effect.gen(function* () {
            const run = yield* createRun({ outputDir, name: "mine", config })
            expect(yield* run.hasMetrics).toBe(false)
            if (metrics) yield* run.tracker.metrics(0, { reward: 0 })
            expect(yield* run.hasMetrics).toBe(metrics)
            return yield* Effect.fail("no luck")
          }).pipe(Effect.scoped, Effect.flip)
        expect(yield* failingRun(false)).toBe("no luck")
        expect(yield* fs.readDirectory(outputDir)).toEqual([])
        expect(yield* failingRun(true)).toBe("no luck")
        expect(yield* fs.readDirectory(outputDir)).toEqual(["mine"])
      }),
    ),
  )

  it.effect("says what is wrong with a folder that it cannot make", () =>
    inTemporaryDirectory(
      Effect.fnUntraced(function* (directory) {
        const fs = yield* FileSystem.FileSystem
        yield* fs.writeFileString(`${directory}/runs`, "a file")
        const error = yield* Effect.flip(createRun({ outputDir: `${directory}/runs`, config }))
        expect(error.message).toContain(`cannot make the directory ${directory}/runs: EEXIST`)
      }),
    ),
  )
})

describe("openRun", () => {
  it.effect("finds a run by name or by path", () =>
    inTemporaryDirectory(
      Effect.fnUntraced(function* (outputDir) {
        yield* Effect.scoped(createRun({ outputDir, name: "mine", config }))
        expect((yield* Effect.scoped(openRun({ outputDir, run: "mine" }))).path).toBe(`${outputDir}/mine`)
        const byPath = yield* Effect.scoped(openRun({ outputDir: "elsewhere", run: `${outputDir}/mine` }))
        expect(byPath.path).toBe(`${outputDir}/mine`)
      }),
    ),
  )

  it.effect("lists the runs there are when there is no such run", () =>
    inTemporaryDirectory(
      Effect.fnUntraced(function* (outputDir) {
        yield* Effect.scoped(createRun({ outputDir, name: "mine", config }))
        const error = yield* Effect.flip(openRun({ outputDir, run: "yours" }))
        expect(error.message).toBe(`no run at ${outputDir}/yours: it has no config.json. Runs in ${outputDir}: mine`)
      }),
    ),
  )

  it.effect("refuses a run that is being written, and takes it once its writer is gone", () =>
    inTemporaryDirectory(
      Effect.fnUntraced(function* (outputDir) {
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* createRun({ outputDir, name: "mine", config })
            const error = yield* Effect.flip(openRun({ outputDir, run: "mine" }))
            expect(error.message).toBe("run mine is being written by another process: wait for it, or end it first")
          }),
        )
        expect((yield* openRun({ outputDir, run: "mine" })).name).toBe("mine")
      }),
    ),
  )

  it.effect("takes a run whose writer was killed", () =>
    inTemporaryDirectory(
      Effect.fnUntraced(function* (outputDir) {
        yield* Effect.scoped(createRun({ outputDir, name: "mine", config }))
        const source = new URL("../../src/run-directory/lock.ts", import.meta.url).pathname
        const holder = Bun.spawn({
          cmd: [
            process.execPath,
            "-e",
            `import { Effect } from "effect"
             import { lockRun } from ${JSON.stringify(source)}
             const told = Effect.sync(() => console.log("held"))
             const held = Effect.andThen(lockRun(${JSON.stringify(`${outputDir}/mine/lock`)}, "mine"), told)
             Effect.runFork(Effect.scoped(Effect.andThen(held, Effect.never)))
             setInterval(() => {}, 1000)`,
          ],
          cwd: import.meta.dirname,
          stdout: "pipe",
          stderr: "ignore",
        })
        yield* Effect.addFinalizer(() => Effect.sync(() => holder.kill("SIGKILL")))
        yield* Effect.promise(() => holder.stdout.getReader().read())
        const error = yield* Effect.flip(openRun({ outputDir, run: "mine" }))
        expect(error.message).toContain("another process")
        holder.kill("SIGKILL")
        yield* Effect.promise(() => holder.exited)
        expect((yield* openRun({ outputDir, run: "mine" })).name).toBe("mine")
      }),
    ),
  )
})

describe("writeModel", () => {
  it.effect("replaces the whole directory and leaves nothing beside it", () =>
    inTemporaryDirectory(
      Effect.fnUntraced(function* (outputDir) {
        const fs = yield* FileSystem.FileSystem
        const run = yield* createRun({ outputDir, name: "mine", config })
        yield* run.writeModel({ "config.json": Uint8Array.of(1), "old.txt": Uint8Array.of(2) })
        yield* run.writeModel({ "config.json": Uint8Array.of(3) })
        expect(yield* fs.readDirectory(run.model)).toEqual(["config.json"])
        expect([...(yield* fs.readFile(`${run.model}/config.json`))]).toEqual([3])
        const beside = (yield* fs.readDirectory(run.path)).filter((name) => name.startsWith("model"))
        expect(beside).toEqual(["model"])
      }),
    ),
  )

  it.effect("keeps the old model when the new one cannot be written", () =>
    inTemporaryDirectory(
      Effect.fnUntraced(function* (outputDir) {
        const fs = yield* FileSystem.FileSystem
        const run = yield* createRun({ outputDir, name: "mine", config })
        yield* run.writeModel({ "config.json": Uint8Array.of(1) })
        const error = yield* Effect.flip(run.writeModel({ "no-such-folder/x": Uint8Array.of(2) }))
        expect(error.message).toContain(`cannot write the model to ${run.model}: ENOENT`)
        expect(yield* fs.readDirectory(run.model)).toEqual(["config.json"])
        expect(yield* fs.exists(`${run.model}.new`)).toBe(false)
      }),
    ),
  )
})
