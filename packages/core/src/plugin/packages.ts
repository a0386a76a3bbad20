import { existsSync, realpathSync } from "node:fs"
import { readFile } from "node:fs/promises"
import { createRequire } from "node:module"
import { dirname, join, resolve } from "node:path"

/** The parts of package.json that plugins need. */
export interface PackageJson {
  readonly name?: string
  readonly version?: string
  readonly dependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
  readonly rlpt?: unknown
}

const ancestors = function* (directory: string): Generator<string> {
  for (let at = resolve(directory); ; at = dirname(at)) {
    yield at
    if (dirname(at) === at) return
  }
}

/** The nearest folder upward from `directory` that has a package.json, links resolved. */
export const packageRoot = (directory: string): string | undefined => {
  const root = ancestors(directory).find((at) => existsSync(join(at, "package.json")))
  return root === undefined ? undefined : realpathSync(root)
}

/**
 * Folder of package `name` as code in `directory` would find it: the walk through `node_modules` that Node and Bun do.
 * Their own resolvers are of no use here, since `exports` may hide package.json.
 */
export const findPackage = (name: string, directory: string): string | undefined =>
  ancestors(directory)
    .map((at) => join(at, "node_modules", name))
    .find((at) => existsSync(join(at, "package.json")))

/** @throws {Error} when the file is missing or is not a JSON object. */
export const readPackageJson = async (directory: string): Promise<PackageJson> => {
  const parsed: unknown = JSON.parse(await readFile(join(directory, "package.json"), "utf8"))
  if (typeof parsed !== "object" || parsed === null) throw new Error("it does not hold a JSON object")
  return parsed
}

/** File that `import specifier` loads in a module of `directory`. @throws {Error} when there is none. */
export const resolveModule = (specifier: string, directory: string): string =>
  typeof Bun === "undefined"
    ? createRequire(join(directory, "package.json")).resolve(specifier)
    : Bun.resolveSync(specifier, directory)
