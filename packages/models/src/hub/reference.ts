/** A model on the hub: `org/name`, `org/name@revision`, `org/name/file.gguf` or `org/name@revision/file.gguf`. */
export interface ModelReference {
  /** `org/name` */
  readonly repository: string
  /** Branch, tag or commit. */
  readonly revision: string
  /** Path of a GGUF file in the repository. */
  readonly file: string | undefined
}

const NAME = "[A-Za-z0-9][A-Za-z0-9._-]*"
/** With a file behind it, a revision has no slash of its own but in git's long names. */
const WITH_FILE = new RegExp(`^(${NAME}/${NAME})(?:@(refs/[a-z]+/[A-Za-z0-9._-]+|[A-Za-z0-9._-]+))?/([^@]+\\.gguf)$`)
const WITHOUT_FILE = new RegExp(`^(${NAME}/${NAME})(?:@([A-Za-z0-9._][A-Za-z0-9._/-]*))?$`)

/** Reads a reference to the hub, or undefined for a text that is none, such as a path. */
export const parseModelReference = (text: string): ModelReference | undefined => {
  const [, repository, revision = "main", file] = WITH_FILE.exec(text) ?? WITHOUT_FILE.exec(text) ?? []
  // Names become folders of the cache.
  if (repository === undefined || text.includes("..") || text.includes("--") || /\/{2}|\/$/.test(text)) return undefined
  return { repository, revision, file }
}

/** Whether `text` is written like a model of the hub. */
export const isModelReference = (text: string): boolean => parseModelReference(text) !== undefined

/** The `org/name` of a reference, which programs that know no revisions or files behind it take. */
export const repositoryOf = (text: string): string | undefined => parseModelReference(text)?.repository

/**
 * The reference with the commit that it led to in place of a branch or a tag, so that it always means the same files.
 *
 * @param path where {@link resolveModel} found it in the cache
 */
export const pinnedReference = (text: string, path: string): string => {
  const reference = parseModelReference(text)
  const commit = /[/\\]snapshots[/\\]([0-9a-f]{40})(?:[/\\]|$)/.exec(path)?.[1]
  return reference && commit ? showReference({ ...reference, revision: commit }) : text
}

export const showReference = ({ repository, revision, file }: ModelReference): string =>
  `${repository}${revision === "main" ? "" : `@${revision}`}${file === undefined ? "" : `/${file}`}`
