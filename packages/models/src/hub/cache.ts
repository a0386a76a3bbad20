import { copyFile, mkdir, readFile, stat, symlink, writeFile } from "node:fs/promises"
import { dirname, join, relative } from "node:path"
import type { ModelReference } from "./reference.ts"

/**
 * One model's folder in the cache that the Python library lays out, so that both share what is downloaded:
 * `blobs/<hash>` hold the bytes, `snapshots/<commit>/<file>` link to them, `refs/<revision>` name a commit.
 */
export class RepositoryCache {
  private readonly folder: string

  constructor(cacheDirectory: string, { repository }: ModelReference) {
    this.folder = join(cacheDirectory, `models--${repository.replace("/", "--")}`)
  }

  blob(hash: string): string {
    return join(this.folder, "blobs", hash)
  }

  snapshot(commit: string): string {
    return join(this.folder, "snapshots", commit)
  }

  /** The commit that `revision` was when it was last asked for. */
  async commit(revision: string): Promise<string | undefined> {
    if (isCommit(revision)) return revision
    const text = await readFile(join(this.folder, "refs", revision), "utf8").catch(() => "")
    return isCommit(text.trim()) ? text.trim() : undefined
  }

  async remember(revision: string, commit: string): Promise<void> {
    if (isCommit(revision)) return
    const path = join(this.folder, "refs", revision)
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, commit)
  }

  /** Puts `file` of `commit` where the blob of `hash` is. */
  async link(commit: string, file: string, hash: string): Promise<void> {
    const path = join(this.snapshot(commit), file)
    await mkdir(dirname(path), { recursive: true })
    // Some file systems have no links; another process may have made it meanwhile.
    await symlink(relative(dirname(path), this.blob(hash)), path).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") await copyFile(this.blob(hash), path)
    })
  }
}

export const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision)

/** Size of the file at `path`, links followed, or undefined. */
export const fileSize = async (path: string): Promise<number | undefined> => {
  const found = await stat(path).catch(() => undefined)
  return found?.isFile() ? found.size : undefined
}
