/** What kind of fault a {@link ModelError} reports. */
export type ModelFault =
  | "missing-directory"
  | "missing-file"
  | "invalid-file"
  | "unsupported"
  | "missing-tensor"
  | "unexpected-tensor"
  | "wrong-shape"
  | "wrong-dtype"
  | "not-finite"
  | "tokenizer"
  | "not-found"
  | "unauthorized"
  | "offline"
  | "network"
  | "checksum"
  | "disk"

/** A model that cannot be loaded or saved. The message names the file, the key or tensor, and what to do. */
export class ModelError extends Error {
  override readonly name = "ModelError"

  constructor(
    readonly fault: ModelFault,
    readonly file: string,
    problem: string,
    options?: ErrorOptions,
  ) {
    super(`${file}: ${problem}`, options)
  }
}
