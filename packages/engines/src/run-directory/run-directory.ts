import { Effect, Exit, FileSystem, Path, Result } from "effect"
import { combineTrackers, type Tracker } from "@rlpt/core"
import { cannot, RunDirectoryError } from "./error.ts"
import { jsonlTracker } from "./jsonl-tracker.ts"
import { lockRun } from "./lock.ts"
import { writeModelFiles } from "./model-files.ts"
import { runNameProblem, runNames } from "./run-name.ts"
import { sampleTracker } from "./sample-tracker.ts"
import { tensorboardTracker } from "./tensorboard-tracker.ts"

/** The folder of one run, held by this process alone until its scope closes. */
export interface RunDirectory {
  readonly name: string
  /** As `outputDir/name`, relative if `outputDir` is. */
  readonly path: string
  /** Where the checkpoint store keeps its checkpoints. */
  readonly checkpoints: string
  /** The model to use, as a Hugging Face directory; there once {@link RunDirectory.writeModel} succeeded. */
  readonly model: string
  /** The adapter of a run that trained one, as a PEFT directory; there once {@link RunDirectory.writeAdapter} succeeded. */
  readonly adapter: string
  /** Writes metrics, timings, samples and the TensorBoard file. */
  readonly tracker: Tracker["Service"]
  /** Whether metrics of any step are on disk: only then is there something to go on with. */
  readonly hasMetrics: Effect.Effect<boolean>
  /** Replaces `model/` in one step. */
  readonly writeModel: (files: Readonly<Record<string, Uint8Array>>) => Effect.Effect<void, RunDirectoryError>
  /** Replaces `adapter/` in one step. */
  readonly writeAdapter: (files: Readonly<Record<string, Uint8Array>>) => Effect.Effect<void, RunDirectoryError>
}

export interface CreateRun {
  /** Folder of all runs; made if missing. */
  readonly outputDir: string
  /** Name of the run. Left out: two words picked by the configuration. */
  readonly name?: string
  /** The resolved configuration, written to `config.json`. */
  readonly config: object
}

/**
 * Makes the folder of a new run. Fails if a run called `name` exists; a picked name moves on to the next free one,
 * the same one each time. When the scope closes with a failure and no metrics have been written by then, the folder goes
 * again: what could not begin leaves nothing behind.
 */
export const createRun = Effect.fnUntraced(function* ({ outputDir, name, config }: CreateRun) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  if (name !== undefined) yield* checkNewName(outputDir, name)
  yield* fs
    .makeDirectory(outputDir, { recursive: true })
    .pipe(Effect.mapError(cannot(`make the directory ${outputDir}`)))
  const configText = `${JSON.stringify(config, null, 2)}\n`
  const names = name === undefined ? runNames(configText) : [name]
  const claimed = yield* claimFirstFree(outputDir, names, configText)
  if (claimed === undefined) return yield* taken(name)
  const folder = path.join(outputDir, claimed)
  // Added before the lock, so that it runs after the lock is gone.
  yield* Effect.addFinalizer((exit) =>
    Exit.isSuccess(exit)
      ? Effect.void
      : Effect.flatMap(hasMetrics(folder), (begun) =>
          begun ? Effect.void : fs.remove(folder, { recursive: true }),
        ).pipe(Effect.ignore, Effect.provideService(FileSystem.FileSystem, fs), Effect.provideService(Path.Path, path)),
  )
  return yield* open(outputDir, claimed)
})

const hasMetrics = Effect.fnUntraced(function* (folder: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  return yield* fs.exists(path.join(folder, "metrics.jsonl")).pipe(Effect.orElseSucceed(() => true))
})

/** Fails if a new run in `outputDir` cannot be called `name`. For finding out before anything expensive is begun. */
export const checkNewName = Effect.fnUntraced(function* (outputDir: string, name: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const problem = runNameProblem(name)
  if (problem !== undefined) return yield* new RunDirectoryError({ message: problem })
  const folder = path.join(outputDir, name)
  if (yield* fs.exists(folder).pipe(Effect.mapError(cannot(`read ${folder}`)))) return yield* taken(name)
})

const taken = (name: string | undefined) =>
  new RunDirectoryError({
    message: `run ${name} exists already: go on with it by --resume ${name}, or choose another --run-name`,
  })

/** Opens an existing run. `run` is its name in `outputDir`, or a path to its folder. */
export const openRun = Effect.fnUntraced(function* ({ outputDir, run }: { outputDir: string; run: string }) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const isPath = run.includes("/") || run.includes(path.sep)
  const folder = isPath ? path.resolve(run) : path.resolve(outputDir, run)
  const parent = isPath ? path.dirname(run) : outputDir
  if (!(yield* fs.exists(path.join(folder, "config.json")).pipe(Effect.mapError(cannot(`read ${folder}`))))) {
    return yield* new RunDirectoryError({
      message: `no run at ${folder}: it has no config.json${yield* otherRuns(parent)}`,
    })
  }
  return yield* open(parent, path.basename(folder))
})

/** Replaces the run's `config.json`. */
export const writeConfig = Effect.fnUntraced(function* (run: RunDirectory, config: object) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const file = path.join(run.path, "config.json")
  yield* fs
    .writeFileString(`${file}.new`, `${JSON.stringify(config, null, 2)}\n`)
    .pipe(
      Effect.andThen(fs.rename(`${file}.new`, file)),
      Effect.mapError(cannot(`write ${file}`)),
      Effect.uninterruptible,
    )
})

/**
 * Makes the folder of the first of `names` that is free, with its `config.json` in it from the first moment: it is
 * written beside and renamed, which is atomic and fails on a folder with content, so two runs never share one.
 */
const claimFirstFree = Effect.fnUntraced(
  function* (outputDir: string, names: Iterable<string>, configText: string) {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const fresh = path.join(outputDir, `.new-${crypto.randomUUID()}`)
    return yield* Effect.gen(function* () {
      yield* fs.makeDirectory(fresh)
      yield* fs.writeFileString(path.join(fresh, "config.json"), configText)
      for (const name of names) {
        const folder = path.join(outputDir, name)
        if (yield* fs.exists(folder)) continue
        const renamed = yield* Effect.result(fs.rename(fresh, folder))
        if (Result.isSuccess(renamed)) return name
        if (!(yield* fs.exists(folder))) return yield* renamed.failure
      }
      return undefined
    }).pipe(Effect.ensuring(Effect.ignore(fs.remove(fresh, { recursive: true, force: true }))))
  },
  (effect, outputDir) => Effect.mapError(effect, cannot(`make a run in ${outputDir}`)),
)

const open = Effect.fnUntraced(function* (outputDir: string, name: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const folder = path.join(outputDir, name)
  const model = path.join(folder, "model")
  const adapter = path.join(folder, "adapter")
  const write = (target: string) => (files: Readonly<Record<string, Uint8Array>>) =>
    writeModelFiles(target, files).pipe(
      Effect.provideService(FileSystem.FileSystem, fs),
      Effect.provideService(Path.Path, path),
    )
  yield* lockRun(path.join(folder, "lock"), name)
  const trackers = [yield* jsonlTracker(folder), yield* sampleTracker(folder), yield* tensorboardTracker(folder)]
  const run: RunDirectory = {
    name,
    path: folder,
    checkpoints: path.join(folder, "checkpoints"),
    model,
    adapter,
    tracker: combineTrackers(trackers),
    hasMetrics: hasMetrics(folder).pipe(
      Effect.provideService(FileSystem.FileSystem, fs),
      Effect.provideService(Path.Path, path),
    ),
    writeModel: write(model),
    writeAdapter: write(adapter),
  }
  return run
})

/** The newest runs of a folder, as the end of an error message. */
const otherRuns = Effect.fnUntraced(function* (outputDir: string) {
  const fs = yield* FileSystem.FileSystem
  const entries = yield* fs.readDirectory(outputDir).pipe(Effect.orElseSucceed((): string[] => []))
  const names = entries.filter((name) => runNameProblem(name) === undefined)
  return names.length === 0 ? "" : `. Runs in ${outputDir}: ${names.sort().join(", ")}`
})
