import { homedir } from "node:os"
import { join } from "node:path"

export interface HubOptions {
  /** Default: `HF_HUB_CACHE`, else `hub` in `HF_HOME`, else `~/.cache/huggingface/hub`: the Python library's. */
  readonly cacheDirectory?: string
  /** Default: `HF_ENDPOINT`, else https://huggingface.co. */
  readonly endpoint?: string
  /** For private and gated models. Default: `HF_TOKEN`. */
  readonly token?: string
  /** Uses the cache alone. Default: whether `HF_HUB_OFFLINE` is set. */
  readonly offline?: boolean
  /** Milliseconds without an answer, or without one more byte, until a request is given up. Default 30,000. */
  readonly timeout?: number
  readonly onProgress?: (progress: HubProgress) => void
  /** Is told when the hub cannot be reached and the model comes from the cache. */
  readonly onWarning?: (message: string) => void
}

export interface HubProgress {
  /** The file that is being downloaded. */
  readonly file: string
  /** Bytes of all of the model's files that are here. */
  readonly loadedBytes: number
  /** Bytes of all of the model's files. */
  readonly totalBytes: number
}

/** {@link HubOptions} with what the environment says about them. */
export interface HubSettings {
  readonly cacheDirectory: string
  readonly endpoint: string
  readonly token: string | undefined
  readonly offline: boolean
  readonly timeout: number
  readonly onProgress: (progress: HubProgress) => void
  readonly onWarning: (message: string) => void
}

const nothing = () => {}

export const hubSettings = (options: HubOptions, environment: NodeJS.ProcessEnv = process.env): HubSettings => {
  const value = (name: string) => environment[name] || undefined
  const home = value("HF_HOME") ?? join(value("XDG_CACHE_HOME") ?? join(homedir(), ".cache"), "huggingface")
  const cache = options.cacheDirectory ?? value("HF_HUB_CACHE") ?? value("HUGGINGFACE_HUB_CACHE") ?? join(home, "hub")
  return {
    cacheDirectory: cache.replace(/^~(?=\/|$)/, homedir()),
    endpoint: (options.endpoint ?? value("HF_ENDPOINT") ?? "https://huggingface.co").replace(/\/+$/, ""),
    token: options.token ?? value("HF_TOKEN"),
    offline: options.offline ?? isTrue(value("HF_HUB_OFFLINE")),
    timeout: options.timeout ?? 30_000,
    onProgress: options.onProgress ?? nothing,
    onWarning: options.onWarning ?? nothing,
  }
}

/** What the Python library takes for true. */
const isTrue = (value: string | undefined): boolean => ["1", "ON", "YES", "TRUE"].includes(value?.toUpperCase() ?? "")
