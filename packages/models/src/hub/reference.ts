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

export const showReference = ({ repository, revision, file }: ModelReference): string =>
  `${repository}${revision === "main" ? "" : `@${revision}`}${file === undefined ? "" : `/${file}`}`
