import { isModelReference, resolveModel, type HubProgress } from "@rlpt/models"
import { Effect } from "effect"
import { configError } from "./config/config-error.ts"
import { formatBytes, progressBar } from "./view/format.ts"
import { dim, Screen } from "./view/screen.ts"

export { isModelReference }

/** The place in the cache of a model of the hub (`org/name`, `org/name@revision`), downloaded if it is not there yet. */
export const hubModel = Effect.fnUntraced(function* (model: string, origin: string) {
  const screen = yield* Screen
  const show = ({ file, loadedBytes, totalBytes }: HubProgress) => {
    const size = `${formatBytes(loadedBytes)} of ${formatBytes(totalBytes)}`
    Effect.runSync(screen.live(`${model}  ${progressBar(loadedBytes / totalBytes, 20)}  ${size}  ${dim(screen, file)}`))
  }
  const warn = (message: string) => Effect.runSync(screen.warn(message))
  return yield* Effect.tryPromise({
    try: () => resolveModel(model, { onProgress: show, onWarning: warn }),
    catch: (cause) => configError(origin, `model: ${cause instanceof Error ? cause.message : String(cause)}`),
  }).pipe(Effect.ensuring(screen.live("")))
})
