import { stat } from "node:fs/promises"
import { ModelError } from "../errors.ts"
import { downloadModel } from "./hub.ts"
import type { HubOptions } from "./options.ts"
import { parseModelReference } from "./reference.ts"

/**
 * The local path of a model: `source` itself if there is a directory or file, else that of the hub's model
 * (`org/name`, `org/name@revision`, `org/name/file.gguf`) in the cache, where it is downloaded to if need be.
 *
 * @throws ModelError if it is neither
 */
export const resolveModel = async (source: string, options: HubOptions = {}): Promise<string> => {
  if (
    await stat(source).then(
      () => true,
      () => false,
    )
  )
    return source
  const reference = parseModelReference(source)
  if (reference !== undefined) return downloadModel(reference, options)
  const problem =
    "there is no such directory or .gguf file, and it is not a model of the hub, which is written org/name"
  throw new ModelError("missing-directory", source, problem)
}
