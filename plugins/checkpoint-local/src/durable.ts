import * as fs from "node:fs/promises"
import { dirname, join } from "node:path"

/** Opens a file; a parameter, so that tests can stand in a full disk. */
export type Open = (path: string, flags: string) => Promise<fs.FileHandle>

/** Makes the names in `directory` survive a power cut. Windows has no such call, and NTFS keeps a journal of names. */
export const syncDirectory = async (directory: string): Promise<void> => {
  if (process.platform === "win32") return
  const handle = await fs.open(directory, "r")
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Writes a new file through to the disk. */
export const writeDurably = async (file: string, content: Uint8Array | string, open: Open): Promise<void> => {
  const handle = await open(file, "wx")
  try {
    await handle.writeFile(content)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Writes `files` (names may have folders in them) into the new folder `directory`, all of it through to the disk. */
export const writeFolder = async (
  directory: string,
  files: Readonly<Record<string, Uint8Array | string>>,
  open: Open,
): Promise<void> => {
  const folders = new Set([directory])
  await fs.mkdir(directory)
  for (const [name, content] of Object.entries(files)) {
    const file = join(directory, name)
    await fs.mkdir(dirname(file), { recursive: true })
    for (let folder = dirname(file); folder !== directory; folder = dirname(folder)) folders.add(folder)
    await writeDurably(file, content, open)
  }
  for (const folder of folders) await syncDirectory(folder)
}
