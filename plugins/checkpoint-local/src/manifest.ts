import { CheckpointError, type Checkpoint } from "@rlpt/core"
import { Schema } from "effect"
import { createHash } from "node:crypto"
import { readFile, stat } from "node:fs/promises"
import { join } from "node:path"
import { isMissing } from "./failure.ts"

/** Name of the file that lists the others. */
export const manifestName = "manifest.json"

/** What a whole checkpoint consists of. */
export const Manifest = Schema.Struct({
  format: Schema.Literal(1),
  step: Schema.Int,
  /** By file name: bytes, and their SHA-256 in hexadecimal. */
  files: Schema.Record(Schema.String, Schema.Struct({ size: Schema.Int, sha256: Schema.String })),
})
export type Manifest = typeof Manifest.Type

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex")

export const describe = ({ step, files }: Checkpoint): Manifest => ({
  format: 1,
  step,
  files: Object.fromEntries(
    Object.entries(files).map(([name, bytes]) => [name, { size: bytes.byteLength, sha256: sha256(bytes) }]),
  ),
})

const corrupt = (file: string, why: string) =>
  new CheckpointError({
    reason: "corrupt",
    message: `${file} is damaged: ${why}; delete this checkpoint and resume from an earlier one`,
  })

/** Reads the manifest of the checkpoint in `directory`; `undefined` if there is none. */
export const readManifest = async (directory: string, step: number): Promise<Manifest | undefined> => {
  const file = join(directory, manifestName)
  const json = await readFile(file, "utf8").catch((cause: unknown) => {
    if (isMissing(cause)) return undefined
    throw cause
  })
  if (json === undefined) return undefined
  const manifest = await Schema.decodePromise(Schema.fromJsonString(Manifest))(json).catch((cause: unknown) => {
    throw corrupt(file, `it is no manifest (${cause instanceof Error ? cause.message : String(cause)})`)
  })
  if (manifest.step !== step) throw corrupt(file, `it belongs to step ${manifest.step}`)
  return manifest
}

/** Whether every listed file is there with the listed size; cheap, since nothing is read. */
export const isWhole = async (directory: string, { files }: Manifest): Promise<boolean> => {
  const matches = Object.entries(files).map(([name, { size }]) =>
    stat(join(directory, name)).then(
      (found) => found.size === size,
      () => false,
    ),
  )
  return (await Promise.all(matches)).every(Boolean)
}

/** Reads every listed file and checks its hash. */
export const readFiles = async (directory: string, { files }: Manifest): Promise<Checkpoint["files"]> => {
  const read: Record<string, Uint8Array> = {}
  for (const [name, { size, sha256: expected }] of Object.entries(files)) {
    const file = join(directory, name)
    const bytes = await readFile(file).catch((cause: unknown) => {
      throw isMissing(cause) ? corrupt(file, "it is missing") : cause
    })
    if (bytes.byteLength !== size) throw corrupt(file, `it has ${bytes.byteLength} bytes instead of ${size}`)
    if (sha256(bytes) !== expected) throw corrupt(file, "its SHA-256 is not the one in the manifest")
    read[name] = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }
  return read
}
