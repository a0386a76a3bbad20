import { existsSync } from "node:fs"
import { join, relative } from "node:path"
import {
  isBuiltin,
  isConditional,
  isInside,
  packageName,
  readImports,
  readPackages,
  resolveRelative,
  sourceFiles,
} from "./packages.ts"
import type { Package } from "./packages.ts"

/** Who may import whom among our own packages: arrows point down only. */
const ARROWS: Readonly<Record<string, readonly string[]>> = {
  "@rlpt/tensor": [],
  "@rlpt/core": [],
  "@rlpt/models": ["@rlpt/tensor"],
  "@rlpt/algos": ["@rlpt/core", "@rlpt/tensor"],
  "@rlpt/engines": ["@rlpt/models", "@rlpt/core", "@rlpt/tensor"],
  rlpt: ["@rlpt/engines", "@rlpt/algos", "@rlpt/models", "@rlpt/core", "@rlpt/tensor"],
}
const PLUGIN: readonly string[] = ["@rlpt/core"]
/** Plugins that run a model of their own. */
const WITH_MODEL: readonly string[] = ["@rlpt/core", "@rlpt/models", "@rlpt/tensor"]
const runsModel = (name: string): boolean => name.includes("backend-") || name === "@rlpt/reward-model"

/** Packages of others that are the whole allowance of one of ours. */
const OTHERS: Readonly<Record<string, readonly string[]>> = { "@rlpt/tensor": ["webgpu"], "@rlpt/core": ["effect"] }

/** What is wrong with the imports of the packages under `root`, one line each; empty when all is well. */
export function findWrongArrows(root: string): string[] {
  const packages = readPackages(root)
  const ours = new Set(packages.map(({ manifest }) => manifest.name))
  const tests: Package = { folder: join(root, "test"), manifest: { name: "@rlpt/test" }, isPlugin: false }
  return [
    ...wrongImports(root, tests, ours),
    ...packages.flatMap((pkg) => [
      ...wrongImports(root, pkg, ours),
      ...wrongDependencies(root, pkg, ours),
      ...circles(root, pkg),
    ]),
  ]
}

function allowed({ manifest, isPlugin }: Package): readonly string[] {
  if (!isPlugin) return ARROWS[manifest.name] ?? []
  return runsModel(manifest.name) ? WITH_MODEL : PLUGIN
}

/** Arrows that point up, past an `index.ts`, or out of the package's folder. */
function wrongImports(root: string, pkg: Package, ours: ReadonlySet<string>): string[] {
  const { name } = pkg.manifest
  const isSource = (file: string) => isInside(file, join(pkg.folder, "src"))
  return sourceFiles(pkg.folder)
    .flatMap(readImports)
    .flatMap((line) => {
      const at = `${relative(root, line.file)}: "${line.specifier}"`
      const target = resolveRelative(line)
      if (target !== undefined) {
        if (!isInside(target, pkg.folder))
          return target.startsWith(join(root, "vitest.")) ? [] : [`${at} leaves the package`]
        if (isSource(line.file) && !isSource(target)) return [`${at} leaves src`]
        return existsSync(target) ? [] : [`${at} does not exist`]
      }
      const other = packageName(line.specifier)
      if (ours.has(other) && line.specifier !== other && line.specifier !== `${other}/package.json`) {
        return [`${at} is not public: import from "${other}"`]
      }
      if (!isSource(line.file) || isBuiltin(line.specifier) || isConditional(line.specifier)) return []
      if (ours.has(other)) return allowed(pkg).includes(other) ? [] : [`${at} is an arrow that ${name} may not have`]
      const others = OTHERS[name]
      return others === undefined || others.includes(other)
        ? []
        : [`${at}: ${name} may import only ${others.join(", ")}`]
    })
}

/** Imports that package.json does not declare, and declarations that nothing imports. */
function wrongDependencies(root: string, pkg: Package, ours: ReadonlySet<string>): string[] {
  const { name, dependencies = {}, peerDependencies = {}, optionalDependencies = {} } = pkg.manifest
  const imports = sourceFiles(join(pkg.folder, "src")).flatMap(readImports)
  const used = new Set(
    imports
      .map(({ specifier }) => specifier)
      .filter((it) => !it.startsWith(".") && !isBuiltin(it) && !isConditional(it))
      .map(packageName),
  )
  const declared = new Set(Object.keys({ ...dependencies, ...peerDependencies, ...optionalDependencies }))
  // The command line brings plugins along and loads them by name.
  const isCarried = (other: string) => name === "rlpt" && ours.has(other) && !(other in ARROWS)
  const manifest = relative(root, join(pkg.folder, "package.json"))
  return [
    ...[...used]
      .filter((other) => !declared.has(other) && other !== name)
      .map((other) => `${manifest}: lacks the dependency "${other}"`),
    ...Object.keys(dependencies)
      .filter((other) => !used.has(other) && !isCarried(other))
      .map((other) => `${manifest}: nothing in src imports the dependency "${other}"`),
  ]
}

/** Files of a package that must load each other first, found by depth-first search. Types are erased and may refer both ways. */
function circles(root: string, pkg: Package): string[] {
  const found: string[] = []
  const done = new Set<string>()
  const visit = (file: string, path: readonly string[]): void => {
    const start = path.indexOf(file)
    if (start >= 0) found.push(`circle: ${[...path.slice(start), file].map((it) => relative(root, it)).join(" → ")}`)
    if (start >= 0 || done.has(file) || !existsSync(file)) return
    for (const line of readImports(file)) {
      const target = resolveRelative(line)
      if (line.isEager && target !== undefined && isInside(target, pkg.folder)) visit(target, [...path, file])
    }
    done.add(file)
  }
  for (const file of sourceFiles(join(pkg.folder, "src"))) visit(file, [])
  return found
}
