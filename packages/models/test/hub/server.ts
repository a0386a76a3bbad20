import { createHash } from "node:crypto"
import { createServer, type Server, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"

export const COMMIT = "0123456789abcdef0123456789abcdef01234567"

/** A hub on the loopback device: the endpoints that are used, and the faults that a real one can have. */
export interface FakeHub {
  readonly endpoint: string
  /** `METHOD path`, with the range if there is one, of each request. */
  readonly requests: string[]
  /** What the next requests for a file's bytes do instead of answering with them. */
  readonly faults: Fault[]
  /** Authorisation that reached the server which hands out large files. */
  readonly seenByStore: Array<string | undefined>
  readonly close: () => Promise<void>
}

export type Fault =
  /** Closes the connection after so many bytes. */
  | { readonly kind: "cut"; readonly after: number }
  /** Sends other bytes. */
  | { readonly kind: "corrupt" }
  /** Sends everything, whatever range was asked for. */
  | { readonly kind: "no ranges" }
  /** Sends some bytes and then nothing. */
  | { readonly kind: "stall"; readonly after: number }
  | { readonly kind: "status"; readonly status: number }

export interface HubModel {
  readonly files: Readonly<Record<string, Uint8Array>>
  /** Files kept in large-file storage: on another server, named by SHA-256. */
  readonly large?: ReadonlyArray<string>
  readonly gated?: boolean
}

const listen = (server: Server): Promise<string> =>
  new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`))
  })

export const startHub = async (models: Readonly<Record<string, HubModel>>): Promise<FakeHub> => {
  const requests: string[] = []
  const faults: Fault[] = []
  const seenByStore: Array<string | undefined> = []

  const sendFile = (response: ServerResponse, bytes: Uint8Array, range: string | undefined) => {
    const fault = faults.shift()
    if (fault?.kind === "status") {
      response.writeHead(fault.status).end()
      return
    }
    const start = fault?.kind === "no ranges" ? 0 : Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0)
    const body = fault?.kind === "corrupt" ? bytes.map((byte) => byte ^ 1) : bytes
    response.writeHead(start > 0 ? 206 : 200, {
      "content-length": body.length - start,
      ...(start > 0 && { "content-range": `bytes ${start}-${body.length - 1}/${body.length}` }),
    })
    if (fault?.kind !== "cut" && fault?.kind !== "stall") {
      response.end(body.subarray(start))
      return
    }
    response.write(body.subarray(start, start + fault.after), () => {
      if (fault.kind === "cut") setTimeout(() => response.destroy(), 50)
    })
  }

  const store = createServer((request, response) => {
    seenByStore.push(request.headers.authorization)
    const [, repository, file] = /^\/(.+?\/.+?)\/(.+)$/.exec(request.url ?? "") ?? []
    sendFile(response, models[repository!]!.files[file!]!, request.headers.range)
  })
  const storeUrl = await listen(store)

  const hub = createServer((request, response) => {
    const url = new URL(request.url ?? "/", "http://hub")
    requests.push(`${request.method} ${url.pathname}${request.headers.range ? ` ${request.headers.range}` : ""}`)
    const json = (status: number, body: unknown, code?: string) => {
      response.writeHead(status, { "content-type": "application/json", ...(code && { "x-error-code": code }) })
      response.end(JSON.stringify(body))
    }
    if (url.pathname === "/api/models") {
      const query = (url.searchParams.get("search") ?? "").slice(0, 4).toLowerCase()
      const found = Object.keys(models).filter((name) => name.toLowerCase().includes(query))
      json(
        200,
        found.map((id) => ({ _id: id, id, lastModified: "2026-01-01T00:00:00Z" })),
      )
      return
    }
    const api = /^\/api\/models\/([^/]+\/[^/]+)\/(revision|tree)\/([^/]+)(?:\/(.*))?$/.exec(url.pathname)
    const resolve = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(url.pathname)
    const repository = (api ?? resolve)?.[1] ?? ""
    const model = models[repository]
    if (model === undefined) {
      json(401, { error: "Invalid username or password." }, "RepoNotFound")
      return
    }
    const { authorization } = request.headers
    if (authorization !== undefined && authorization !== "Bearer right") {
      json(401, { error: "Invalid token" })
      return
    }
    if (model.gated && authorization === undefined) {
      json(403, { error: `Access to model ${repository} is restricted.` }, "GatedRepo")
      return
    }
    const revision = decodeURIComponent(api?.[3] ?? resolve?.[2] ?? "")
    if (!["main", "v1", "refs/pr/1", COMMIT].includes(revision)) {
      json(404, { error: `Invalid rev id: ${revision}` }, "RevisionNotFound")
      return
    }
    if (api?.[2] === "revision") {
      json(200, { _id: "1", id: repository, sha: COMMIT, lastModified: "2026-01-01T00:00:00Z" })
    } else if (api?.[2] === "tree") {
      const folder = api[4] === undefined ? "" : `${api[4]}/`
      const names = Object.keys(model.files).filter(
        (name) => name.startsWith(folder) && !name.slice(folder.length).includes("/"),
      )
      json(
        200,
        names.map((path) => entry(path, model)),
      )
    } else {
      const file = decodeURIComponent(resolve![3]!)
      const bytes = model.files[file]
      if (bytes === undefined) json(404, { error: "Entry not found" }, "EntryNotFound")
      else if (model.large?.includes(file)) {
        response.writeHead(302, { location: `${storeUrl}/${repository}/${file}` }).end()
      } else sendFile(response, bytes, request.headers.range)
    }
  })
  const endpoint = await listen(hub)
  const close = async () => {
    for (const server of [hub, store]) {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  }
  return { endpoint, requests, faults, seenByStore, close }
}

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex")
export const gitHash = (bytes: Uint8Array) =>
  createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex")

const entry = (path: string, { files, large = [] }: HubModel) => {
  const bytes = files[path]!
  const pointer = { type: "file", path, oid: gitHash(new TextEncoder().encode(`pointer to ${path}`)) }
  return large.includes(path)
    ? { ...pointer, size: bytes.length, lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 130 } }
    : { type: "file", path, oid: gitHash(bytes), size: bytes.length }
}
