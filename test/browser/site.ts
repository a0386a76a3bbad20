import { readFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { extname, join } from "node:path"

const types: Readonly<Record<string, string>> = { ".html": "text/html", ".js": "text/javascript" }

export interface Site extends AsyncDisposable {
  readonly url: string
  /** Paths that were asked for so far. */
  readonly requests: readonly string[]
}

/** Serves the files of `folder` on the loopback. */
export const serve = async (folder: string): Promise<Site> => {
  const requests: string[] = []
  const server = createServer((request, response) => {
    const path = request.url!.split("?")[0]!
    requests.push(path)
    const name = path === "/" ? "/index.html" : path
    try {
      const body = readFileSync(join(folder, name))
      response.setHeader("content-type", types[extname(name)] ?? "application/octet-stream")
      response.end(body)
    } catch {
      response.writeHead(404).end()
    }
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    requests,
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
  }
}
