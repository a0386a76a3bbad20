const BLOCK = 512

export interface TarEntry {
  readonly name: string
  readonly data: Uint8Array
}

/**
 * The regular files of a ustar archive held in memory. Directories, links and pax records are passed over.
 * Throws when the archive is cut short.
 */
export function* readTar(archive: Uint8Array): Generator<TarEntry> {
  const text = new TextDecoder()
  const field = (offset: number, length: number) =>
    text.decode(archive.subarray(offset, offset + length)).replace(/\0.*$/s, "")
  for (let offset = 0; offset + BLOCK <= archive.length && archive[offset] !== 0;) {
    const size = Number.parseInt(field(offset + 124, 12).trim() || "0", 8)
    const type = field(offset + 156, 1)
    const prefix = field(offset + 345, 155)
    const name = (prefix === "" ? "" : `${prefix}/`) + field(offset, 100)
    const start = offset + BLOCK
    if (!(start + size <= archive.length)) throw new Error(`the archive ends inside ${name}: it is damaged`)
    if (type === "" || type === "0") yield { name, data: archive.subarray(start, start + size) }
    offset = start + Math.ceil(size / BLOCK) * BLOCK
  }
}
