import { ModelError } from "../errors.ts"
import type { HubSettings } from "./options.ts"

/** An answer of the hub that is not the one asked for. */
export class HubFailure extends Error {
  override readonly name = "HubFailure"

  constructor(
    readonly status: number,
    /** `X-Error-Code`: RepoNotFound, RevisionNotFound, GatedRepo … */
    readonly code: string | undefined,
    message: string,
  ) {
    super(message)
  }
}

/** The hub could not be reached, or stopped answering. */
export class HubUnreachable extends Error {
  override readonly name = "HubUnreachable"
}

/**
 * `fetch` with a deadline, for an answer's head and again for every piece of its body.
 *
 * @throws HubFailure for an answer that is not OK
 * @throws HubUnreachable if there is none
 */
export const request = async (
  { timeout }: HubSettings,
  url: string,
  init: RequestInit = {},
): Promise<{ readonly response: Response; readonly pieces: AsyncIterable<Uint8Array> }> => {
  const controller = new AbortController()
  const within = <Result>(work: Promise<Result>): Promise<Result> => {
    const timer = setTimeout(() => controller.abort(new Error(`no answer for ${timeout / 1000} s`)), timeout)
    return work
      .finally(() => clearTimeout(timer))
      .catch((cause: Error) => {
        throw new HubUnreachable(String(controller.signal.reason?.message ?? cause.message), { cause })
      })
  }
  const response = await within(fetch(url, { ...init, signal: controller.signal }))
  if (!response.ok) {
    const text = await within(response.text()).catch(() => "")
    throw new HubFailure(response.status, response.headers.get("x-error-code") ?? undefined, messageOf(text))
  }
  async function* pieces() {
    const reader = response.body?.getReader()
    if (reader === undefined) return
    try {
      for (;;) {
        const { done, value } = await within(reader.read())
        if (done) return
        yield value
      }
    } finally {
      controller.abort()
    }
  }
  return { response, pieces: pieces() }
}

/** What the hub is told about who asks; the hub library would refuse tokens of other hubs. */
export const authorization = ({ token }: HubSettings): Record<string, string> =>
  token === undefined ? {} : { authorization: `Bearer ${token}` }

/** Like {@link request}, as the `fetch` that `@huggingface/hub` is given. */
export const hubFetch = (settings: HubSettings): typeof fetch => {
  const own = async (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const url = input instanceof Request ? input.url : input.toString()
    const ours = url.startsWith(`${settings.endpoint}/`) ? authorization(settings) : {}
    const headers = { ...(init?.headers as Record<string, string> | undefined), ...ours }
    const { response, pieces } = await request(settings, url, { ...init, headers })
    const parts: Uint8Array[] = []
    for await (const piece of pieces) parts.push(piece)
    return new Response(Buffer.concat(parts), { status: response.status, headers: response.headers })
  }
  return own as typeof fetch
}

const messageOf = (body: string): string => {
  try {
    const { error } = JSON.parse(body) as { error?: unknown }
    if (typeof error === "string") return error
  } catch {
    // Not JSON: a proxy's page, mostly.
  }
  return body.slice(0, 200).trim()
}

/** What a user is told when a request about `model` failed, and what to do. */
export const explain = (
  error: unknown,
  { endpoint, token }: HubSettings,
  model: { readonly name: string; readonly repository: string; readonly revision: string },
  suggestions: ReadonlyArray<string>,
): unknown => {
  if (error instanceof HubUnreachable) {
    const problem = `${endpoint} cannot be reached (${error.message}), and the model is not in the cache`
    return new ModelError("network", model.name, problem, { cause: error })
  }
  if (!(error instanceof HubFailure)) return error
  const { status, code, message } = error
  const said = message === "" ? "" : ` (${message})`
  if (code === "RevisionNotFound") {
    return new ModelError("not-found", model.name, `has no branch, tag or commit "${model.revision}"${said}`)
  }
  if (code === "GatedRepo" || status === 403) {
    const page = `${endpoint}/${model.repository}`
    const tokenHint = token === undefined ? "set HF_TOKEN" : "check that HF_TOKEN belongs to an account with access"
    return new ModelError(
      "unauthorized",
      model.name,
      `is gated; accept its conditions at ${page} and ${tokenHint}${said}`,
    )
  }
  // The hub answers 401 for what does not exist, too.
  if (status === 401 && code !== "RepoNotFound") {
    const problem = token === undefined ? "needs a token: set HF_TOKEN" : "does not accept the token in HF_TOKEN"
    return new ModelError("unauthorized", model.name, `${endpoint} ${problem}${said}`)
  }
  if (status === 404 || status === 401) {
    const others = suggestions.length === 0 ? "" : `; did you mean ${suggestions.join(", ")}?`
    const access = token === undefined ? ", or it is private and needs HF_TOKEN" : ""
    const problem = `there is no such directory, and no such model at ${endpoint}${access}${others}`
    return new ModelError("not-found", model.name, problem)
  }
  return new ModelError("network", model.name, `${endpoint} answers ${status}${said}`, { cause: error })
}
