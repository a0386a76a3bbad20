import { createHash } from "node:crypto"
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { basename, dirname, join } from "node:path"
import { brotliDecompressSync } from "node:zlib"
import { isOurs } from "./cache-folders.ts"
import { readTar } from "./tar.ts"

/** SwiftShader unpacked: a Vulkan loader, a software driver, and the file that names the driver to the loader. */
export interface SwiftShader {
  readonly loader: string
  readonly driver: string
  readonly icd: string
}

const FILES = { loader: "libvulkan.so.1", driver: "libvk_swiftshader.so", icd: "vk_swiftshader_icd.json" } as const

/** Path of the archive that the npm package `@sparticuz/chromium` carries, or `undefined` when it is not installed. */
export function findSwiftShaderArchive(): string | undefined {
  try {
    const entry = createRequire(import.meta.url).resolve("@sparticuz/chromium")
    const archive = join(dirname(entry), "..", "bin", "swiftshader.tar.br")
    return statSync(archive).isFile() ? archive : undefined
  } catch {
    return undefined
  }
}

/**
 * Unpacks `archive` (a tar under brotli) into `folder/swiftshader-<hash>`, once: a later call, from any process, finds it.
 * The files are written beside and renamed, so a reader sees all of them or none. Throws when `folder` cannot be
 * written, or another user could have.
 */
export function unpackSwiftShader(archive: string, folder: string): SwiftShader {
  const packed = readFileSync(archive)
  const target = join(folder, `swiftshader-${createHash("sha256").update(packed).digest("hex").slice(0, 16)}`)
  if (!isOurs(folder)) mkdirSync(folder, { recursive: true, mode: 0o700 })
  if (!isOurs(folder)) throw new Error(`${folder} belongs to, or can be written by, another user`)
  if (!isComplete(target)) {
    const beside = mkdtempSync(`${target}.`)
    try {
      for (const { name, data } of readTar(brotliDecompressSync(packed))) {
        const file = basename(name)
        if ((Object.values(FILES) as string[]).includes(file))
          writeFileSync(join(beside, file), data, { mode: 0o700, flush: true })
      }
      if (!isComplete(beside)) throw new Error(`${archive} does not hold ${Object.values(FILES).join(", ")}`)
      replace(beside, target)
    } finally {
      rmSync(beside, { recursive: true, force: true })
    }
  }
  return { loader: join(target, FILES.loader), driver: join(target, FILES.driver), icd: join(target, FILES.icd) }
}

/** Puts `beside` at `target`, unless another process has put a complete copy there meanwhile. */
function replace(beside: string, target: string): void {
  try {
    renameSync(beside, target)
  } catch (error) {
    if (isComplete(target)) return
    const code = (error as NodeJS.ErrnoException).code
    if (code !== "ENOTEMPTY" && code !== "EEXIST") throw error
    rmSync(target, { recursive: true, force: true })
    renameSync(beside, target)
  }
}

function isComplete(folder: string): boolean {
  try {
    return isOurs(folder) && Object.values(FILES).every((file) => statSync(join(folder, file)).size > 0)
  } catch {
    return false
  }
}
