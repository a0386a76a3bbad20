import { CheckpointError, type Checkpoint, type CheckpointStore } from "@rlpt/core"
import { Effect, Semaphore } from "effect"
import { existsSync } from "node:fs"
import * as fs from "node:fs/promises"
import { dirname, join } from "node:path"
import { syncDirectory, writeFolder, type Open } from "./durable.ts"
import { checkpointError, isMissing } from "./failure.ts"
import { clearLeftovers, finalName, replacedName, stepOf, temporaryName } from "./leftovers.ts"
import { describe, isWhole, manifestName, readFiles, readManifest } from "./manifest.ts"

const isSafeName = (name: string) =>
  name !== manifestName &&
  name.split("/").every((part) => part !== "" && part !== "." && part !== "..") &&
  !/[\\:]/.test(name)

const megabytes = ({ files }: Checkpoint) =>
  (Object.values(files).reduce((sum, { byteLength }) => sum + byteLength, 0) / 1e6).toFixed(1)

const write = async (directory: string, checkpoint: Checkpoint, open: Open): Promise<void> => {
  const unsafe = Object.keys(checkpoint.files).find((name) => !isSafeName(name))
  if (unsafe !== undefined) throw new Error(`"${unsafe}" cannot be the name of a file in a checkpoint`)
  const { step } = checkpoint
  const [home, temporary, replaced] = [finalName(step), temporaryName(step), replacedName(step)].map((name) =>
    join(directory, name),
  ) as [string, string, string]

  if (!existsSync(directory)) {
    await fs.mkdir(directory, { recursive: true })
    await syncDirectory(dirname(directory))
  }
  await clearLeftovers(directory)
  try {
    const manifest = `${JSON.stringify(describe(checkpoint), undefined, 2)}\n`
    await writeFolder(temporary, { ...checkpoint.files, [manifestName]: manifest }, open)
    // A folder cannot be renamed over one with content, so a checkpoint written again first steps aside.
    if (existsSync(home)) await fs.rename(home, replaced)
    await fs.rename(temporary, home)
    await syncDirectory(directory)
  } catch (cause) {
    // What went wrong is the news; should clearing up fail too, the next write does it.
    await fs.rm(temporary, { recursive: true, force: true }).catch(() => {})
    throw cause
  }
  await fs.rm(replaced, { recursive: true, force: true })
}

const read = async (directory: string, step: number): Promise<Checkpoint> => {
  const home = join(directory, finalName(step))
  const manifest = await readManifest(home, step)
  if (manifest === undefined) {
    throw new CheckpointError({
      reason: "not-found",
      message: `there is no checkpoint of step ${step} in ${directory}`,
    })
  }
  return { step, files: await readFiles(home, manifest) }
}

const listWhole = async (directory: string): Promise<ReadonlyArray<number>> => {
  const names = await fs.readdir(directory).catch((cause: unknown) => {
    if (isMissing(cause)) return []
    throw cause
  })
  const whole: Array<number> = []
  for (const name of names) {
    const step = stepOf(name)
    if (step === undefined) continue
    const manifest = await readManifest(join(directory, name), step).catch(() => undefined)
    if (manifest !== undefined && (await isWhole(join(directory, name), manifest))) whole.push(step)
  }
  return whole.toSorted((a, b) => a - b)
}

const remove = async (directory: string, step: number): Promise<void> => {
  const home = join(directory, finalName(step))
  if (!existsSync(home)) return
  // Renamed first, so that a crash in the middle leaves no `step-N` with files missing.
  const temporary = join(directory, temporaryName(step))
  await fs.rename(home, temporary)
  await syncDirectory(directory)
  await fs.rm(temporary, { recursive: true, force: true })
}

/**
 * A checkpoint store in `directory`, one folder `step-N` for each. A checkpoint is written beside, synced, hashed into
 * `manifest.json` and renamed into place: whatever happens, a reader sees a whole one or none. Deleting one that is not
 * there does nothing. One process may write while others read.
 */
export const localStore = Effect.fnUntraced(function* (
  directory: string,
  open: Open = fs.open,
): Effect.fn.Return<CheckpointStore["Service"]> {
  const writing = yield* Semaphore.make(1)
  const attempt = <A>(doing: string, run: () => Promise<A>) =>
    Effect.tryPromise({ try: run, catch: checkpointError(`${doing} in ${directory}`) })
  // Not to be interrupted: what has begun is finished or cleared away before the run ends.
  const exclusive = <A, E>(change: Effect.Effect<A, E>) => writing.withPermit(Effect.uninterruptible(change))
  return {
    put: (checkpoint) =>
      exclusive(
        attempt(`writing the checkpoint of step ${checkpoint.step} (${megabytes(checkpoint)} MB)`, () =>
          write(directory, checkpoint, open),
        ),
      ),
    get: (step) => attempt(`reading the checkpoint of step ${step}`, () => read(directory, step)),
    list: attempt("listing checkpoints", () => listWhole(directory)),
    delete: (step) => exclusive(attempt(`deleting the checkpoint of step ${step}`, () => remove(directory, step))),
  }
})
