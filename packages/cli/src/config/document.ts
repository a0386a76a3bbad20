import { isMap, isPair, isScalar, isSeq, LineCounter, parseDocument, type Node } from "yaml"
import type { ConfigProblem } from "./config-error.ts"
import type { KeyPath } from "./key-path.ts"
import { camelCase } from "./schema-keys.ts"

/** What a configuration file says, and where it says it. */
export interface ConfigDocument {
  readonly value: unknown
  /** `file:line:column` of the key at `path`, or of the nearest thing around it that the file has. */
  readonly locate: (path: KeyPath) => string
  /** Whether the file itself has something at `path`. */
  readonly has: (path: KeyPath) => boolean
}

interface Found {
  /** Offset of the key (or, in a list, of the item). */
  readonly offset: number
  /** How many parts of the path were found. */
  readonly depth: number
}

const find = (root: Node | null, path: KeyPath): Found => {
  let node: unknown = root
  let offset = root?.range?.[0] ?? 0
  for (const [depth, part] of path.entries()) {
    if (isMap(node) && typeof part === "string") {
      const pair = node.items.find(
        ({ key }) => isScalar(key) && (key.value === part || camelCase(String(key.value)) === part),
      )
      if (!isPair(pair) || !isScalar(pair.key)) return { offset, depth }
      offset = pair.key.range?.[0] ?? offset
      node = pair.value
    } else if (isSeq(node) && typeof part === "number" && part < node.items.length) {
      node = node.items[part]
      offset = (node as Node | null)?.range?.[0] ?? offset
    } else {
      return { offset, depth }
    }
  }
  return { offset, depth: path.length }
}

/** Reads YAML, of which JSON is a part: both get the same errors with the same positions. `file` is the name to show. */
export const parseConfigText = (
  file: string,
  text: string,
): { readonly document: ConfigDocument } | { readonly problems: ReadonlyArray<ConfigProblem> } => {
  const lineCounter = new LineCounter()
  const document = parseDocument(text, { lineCounter, prettyErrors: false })
  const position = (offset: number) => {
    const { line, col } = lineCounter.linePos(offset)
    return `${file}:${line}:${col}`
  }
  // A warning is about something that would not mean what it says, such as an unknown tag.
  const faults = [...document.errors, ...document.warnings]
  if (faults.length > 0) {
    return { problems: faults.map(({ pos, message }) => ({ where: position(pos[0]), what: message })) }
  }
  return {
    document: {
      value: document.toJS() as unknown,
      locate: (path) => position(find(document.contents, path).offset),
      has: (path) => find(document.contents, path).depth === path.length,
    },
  }
}
