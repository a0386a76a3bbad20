import { createHash, type Hash } from "node:crypto"
import { createReadStream } from "node:fs"
import { mkdir, open, rename, rm } from "node:fs/promises"
import { dirname } from "node:path"
import { ModelError } from "../errors.ts"
import { fileSize } from "./cache.ts"
import type { HubSettings } from "./options.ts"
import { authorization, HubFailure, HubUnreachable, request } from "./request.ts"

/** A file of the hub with what its bytes must be. */
export interface RemoteFile {
  readonly url: string
  readonly size: number
  /** SHA-256 of the bytes for large files, git's SHA-1 of the blob for others; also the blob's name in the cache. */
  readonly hash: string
}

/** Tries without one more byte before a download is given up. */
const ATTEMPTS = 5

/**
 * Downloads `file` to `path`. An interrupted download goes on where it was cut, in this process or the next; bytes that
 * are not the file's are thrown away. Nothing is at `path` until all of it is there and its checksum is right.
 *
 * @param onBytes is told how many bytes of the file are here
 * @throws ModelError for a wrong checksum or a full disk
 * @throws HubFailure | HubUnreachable if the hub does not hand the file out
 */
export const download = async (
  settings: HubSettings,
  file: RemoteFile,
  path: string,
  onBytes: (bytes: number) => void,
): Promise<void> => {
  const partial = `${path}.incomplete`
  await mkdir(dirname(path), { recursive: true })
  for (let attempt = 1; ; attempt++) {
    const before = (await fileSize(partial)) ?? 0
    try {
      await receive(settings, file, partial, onBytes)
      break
    } catch (error) {
      const cut = error instanceof HubUnreachable || (error instanceof HubFailure && error.status >= 500)
      if (((await fileSize(partial)) ?? 0) > before) attempt = 0
      if (!cut || attempt >= ATTEMPTS) throw diskFull(error, path)
      await new Promise((resolve) => setTimeout(resolve, Math.min(settings.timeout, 200 * 2 ** attempt)))
    }
  }
  const actual = await hashFile(partial, file)
  if (actual !== file.hash) {
    await rm(partial, { force: true })
    const problem = `the download from ${file.url} has checksum ${actual}, not ${file.hash}; it was deleted, try again`
    throw new ModelError("checksum", path, problem)
  }
  await rename(partial, path)
}

/** Appends what is missing to the partial file. */
const receive = async (
  settings: HubSettings,
  { url, size }: RemoteFile,
  partial: string,
  onBytes: (bytes: number) => void,
): Promise<void> => {
  let start = (await fileSize(partial)) ?? 0
  if (start > size) start = 0
  onBytes(start)
  if (start === size && size > 0) return
  const { response, pieces } = await request(settings, url, {
    headers: {
      // The file's own bytes, so that positions in it mean something.
      "accept-encoding": "identity",
      ...authorization(settings),
      ...(start > 0 && { range: `bytes=${start}-` }),
    },
  })
  if (response.status !== 206) start = 0
  const handle = await open(partial, start > 0 ? "r+" : "w")
  try {
    let position = start
    for await (const piece of pieces) {
      if (position + piece.length > size) {
        await handle.truncate(0)
        throw new ModelError("checksum", partial, `${url} has more than the ${size} bytes that the hub lists`)
      }
      await handle.write(piece, 0, piece.length, position)
      position += piece.length
      onBytes(position)
    }
    if (position < size) throw new HubUnreachable(`the connection was cut after ${position} of ${size} bytes`)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** The file's SHA-256, or git's name of it as a blob, whichever `file.hash` is by its length. */
const hashFile = async (path: string, { hash, size }: RemoteFile): Promise<string> => {
  const digest: Hash = hash.length === 64 ? createHash("sha256") : createHash("sha1").update(`blob ${size}\0`)
  for await (const chunk of createReadStream(path)) digest.update(chunk as Uint8Array)
  return digest.digest("hex")
}

const diskFull = (error: unknown, path: string): unknown =>
  error instanceof Error && "code" in error && error.code === "ENOSPC"
    ? new ModelError("disk", path, "the disk is full; make room, or set HF_HUB_CACHE to another one", { cause: error })
    : error
