import { globSync, readFileSync } from "node:fs"
import { dirname, join, relative, resolve } from "node:path"
import { parseSync } from "vite"

export const ROOT = join(import.meta.dirname, "..", "..")

export interface Manifest {
  readonly name: string
  readonly description?: string
  readonly license?: string
  readonly private?: boolean
  readonly exports?: Readonly<Record<string, unknown>>
  readonly dependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
}

/** A published package of the house: a folder of `packages/` or `plugins/`. */
export interface Package {
  readonly folder: string
  readonly manifest: Manifest
  readonly isPlugin: boolean
}

/** An import of one file: `import`, `export … from`, `import()` or the type `import("…")`. */
export interface Import {
  readonly file: string
  readonly specifier: string
  /** Whether the module is loaded before this one runs: neither a type, which is erased, nor an `import()`. */
  readonly isEager: boolean
}

/** The published packages under `root`, sorted by folder. */
export function readPackages(root: string): Package[] {
  return globSync(["packages/*/package.json", "plugins/*/package.json"], { cwd: root })
    .sort()
    .map((path) => ({
      folder: join(root, dirname(path)),
      manifest: JSON.parse(readFileSync(join(root, path), "utf8")) as Manifest,
      isPlugin: path.startsWith("plugins"),
    }))
}

/** The TypeScript files under `folder`, those of installed packages and builds left out. */
export function sourceFiles(folder: string): string[] {
  const outside = new Set(["node_modules", "dist"])
  return globSync("**/*.ts", { cwd: folder, exclude: (path) => path.split("/").some((part) => outside.has(part)) })
    .sort()
    .map((path) => join(folder, path))
}

/** All imports of `file` with a literal specifier, types included. */
export function readImports(file: string): Import[] {
  const { program, errors } = parseSync(file, readFileSync(file, "utf8"))
  if (errors.length > 0) throw new Error(`${file}: ${errors[0]!.message}`)
  const found: Import[] = []
  const walk = (node: unknown): void => {
    if (node === null || typeof node !== "object") return
    const {
      type = "",
      source,
      importKind,
      exportKind,
    } = node as Partial<Record<"type" | "importKind" | "exportKind", string>> & {
      source?: { value?: unknown } | null
    }
    const isStatic = /^(Import|ExportAll|ExportNamed)Declaration$/.test(type)
    if (typeof source?.value === "string" && (isStatic || type === "ImportExpression" || type === "TSImportType")) {
      found.push({ file, specifier: source.value, isEager: isStatic && importKind !== "type" && exportKind !== "type" })
    }
    Object.values(node).forEach(walk)
  }
  walk(program)
  return found
}

/** `@scope/name/sub/path` → `@scope/name`. */
export function packageName(specifier: string): string {
  return specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/")
}

/** The file that a relative specifier means, or `undefined` for a package. */
export function resolveRelative({ file, specifier }: Import): string | undefined {
  return specifier.startsWith(".") ? resolve(dirname(file), specifier) : undefined
}

/** Whether `path` lies in `folder`. */
export function isInside(path: string, folder: string): boolean {
  return !relative(folder, path).startsWith("..")
}

/** Whether the modules of `specifier` come with the runtime. */
export function isBuiltin(specifier: string): boolean {
  return /^(node|bun):|^bun$/.test(specifier)
}

/** Whether `specifier` is a file of the same package that depends on the runtime: a key of `imports` in package.json. */
export function isConditional(specifier: string): boolean {
  return specifier.startsWith("#")
}
