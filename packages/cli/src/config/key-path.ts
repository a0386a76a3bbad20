/** Where a value sits in a configuration: keys of objects and indices of arrays, from the outside in. */
export type KeyPath = ReadonlyArray<string | number>

/** `["rewards", 0, "weight"]` as rewards[0].weight. */
export const showKeyPath = (path: KeyPath): string =>
  path.map((part, index) => (typeof part === "number" ? `[${part}]` : index === 0 ? part : `.${part}`)).join("")

/** The inverse of {@link showKeyPath}; nothing if `text` is not a key path. Indices may also be written `.0`. */
export const parseKeyPath = (text: string): KeyPath | undefined => {
  if (!/^[^.[\]]+(\.[^.[\]]+|\[\d+\])*$/.test(text)) return undefined
  return Array.from(text.matchAll(/[^.[\]]+/g), ([part], index) =>
    index > 0 && /^\d+$/.test(part) ? Number(part) : part,
  )
}

/** Whether `path` is `start` or inside of it. */
export const startsWith = (path: KeyPath, start: KeyPath): boolean =>
  start.length <= path.length && start.every((part, index) => path[index] === part)
