import { execFileSync, spawn } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { brotliDecompressSync } from "node:zlib"
import { ROOT } from "../house/packages.ts"

/** The folder of the browser that the npm package @sparticuz/chromium carries, or why there is none. */
const packed = (): { readonly folder: string } | { readonly missing: string } => {
  if (process.platform !== "linux" || process.arch !== "x64")
    return { missing: "@sparticuz/chromium is for Linux on x64" }
  try {
    const main = createRequire(join(ROOT, "packages/tensor/package.json")).resolve("@sparticuz/chromium")
    let folder = dirname(main)
    while (!existsSync(join(folder, "bin", "chromium.br"))) {
      if (folder === dirname(folder)) return { missing: "@sparticuz/chromium has no chromium.br" }
      folder = dirname(folder)
    }
    return { folder: join(folder, "bin") }
  } catch {
    return { missing: "@sparticuz/chromium is not installed" }
  }
}

/** The path of a Chromium of one's own, such as /usr/bin/chromium, to test in instead. */
const chosen = process.env["RLPT_CHROMIUM"]

export const whyNoChromium = (): string | undefined => {
  if (chosen !== undefined) return undefined
  const found = packed()
  return "missing" in found ? found.missing : undefined
}

/** Unpacks the browser with its libraries, once for all runs on this machine; tells where. */
const unpack = (): string => {
  const found = packed()
  if ("missing" in found) throw new Error(found.missing)
  const target = join(tmpdir(), "rlpt-chromium-153")
  if (existsSync(target)) return target
  const making = mkdtempSync(join(tmpdir(), "rlpt-chromium-"))
  const read = (name: string) => brotliDecompressSync(readFileSync(join(found.folder, name)))
  writeFileSync(join(making, "chromium"), read("chromium.br"), { mode: 0o755 })
  for (const archive of ["al2023.tar.br", "swiftshader.tar.br"])
    execFileSync("tar", ["-x", "-C", making], { input: read(archive) })
  try {
    renameSync(making, target)
  } catch {
    // Another process was faster.
    rmSync(making, { recursive: true, force: true })
  }
  return target
}

const packedProgram = () => {
  const folder = unpack()
  return { path: join(folder, "chromium"), environment: { LD_LIBRARY_PATH: `${join(folder, "lib")}:${folder}` } }
}

export interface Page extends AsyncDisposable {
  /** Value of an expression in the page. */
  readonly evaluate: (expression: string) => Promise<unknown>
  /** Value of an expression in the page as soon as it is neither null nor undefined; fails after `seconds`. */
  readonly settled: (expression: string, seconds: number) => Promise<unknown>
}

/** Opens `url` in a headless Chromium with WebGPU on SwiftShader, spoken to through its DevTools protocol. */
export const openPage = async (url: string): Promise<Page> => {
  const program = chosen === undefined ? packedProgram() : { path: chosen, environment: {} }
  const profile = mkdtempSync(join(tmpdir(), "rlpt-profile-"))
  const flags = [
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--no-zygote",
    "--remote-debugging-port=0",
    `--user-data-dir=${profile}`,
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
  ]
  // The browser brings its own Vulkan driver: what the tests hide from Dawn must not hide that one.
  const { VK_DRIVER_FILES: _files, VK_ICD_FILENAMES: _names, ...environment } = process.env
  const browser = spawn(program.path, [...flags, url], {
    env: { ...environment, ...program.environment, HOME: profile },
    stdio: ["ignore", "ignore", "pipe"],
  })
  const port = await new Promise<string>((resolve, reject) => {
    let text = ""
    browser.stderr.on("data", (chunk: Buffer) => {
      text += chunk.toString()
      const listening = /DevTools listening on ws:\/\/[^:]+:(\d+)/.exec(text)
      if (listening) resolve(listening[1]!)
    })
    browser.on("exit", (code) => reject(new Error(`Chromium ended with ${code}: ${text}`)))
  })
  const socket = new WebSocket(await debuggerOf(port))
  await new Promise<void>((resolve, reject) => {
    socket.addEventListener("open", () => resolve())
    socket.addEventListener("error", () => reject(new Error("the page does not answer")))
  })
  let calls = 0
  const evaluate = (expression: string): Promise<unknown> =>
    new Promise((resolve) => {
      const id = ++calls
      const answer = ({ data }: MessageEvent) => {
        const message = JSON.parse(String(data)) as { id?: number; result?: { result?: { value?: unknown } } }
        if (message.id !== id) return
        socket.removeEventListener("message", answer)
        resolve(message.result?.result?.value)
      }
      socket.addEventListener("message", answer)
      socket.send(JSON.stringify({ id, method: "Runtime.evaluate", params: { expression } }))
    })
  const settled = async (expression: string, seconds: number): Promise<unknown> => {
    for (const end = Date.now() + 1000 * seconds; ;) {
      const value = await evaluate(expression)
      if (value !== null && value !== undefined) return value
      if (Date.now() > end) throw new Error(`the page has no ${expression} after ${seconds} s`)
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
  return {
    evaluate,
    settled,
    [Symbol.asyncDispose]: async () => {
      const gone = new Promise((resolve) => browser.on("exit", resolve))
      socket.close()
      browser.kill("SIGKILL")
      await gone
      rmSync(profile, { recursive: true, force: true })
    },
  }
}

/** Address of the page's debugger; the page may take a moment to appear. */
const debuggerOf = async (port: string): Promise<string> => {
  for (;;) {
    const targets = (await (await fetch(`http://127.0.0.1:${port}/json`)).json()) as {
      type: string
      webSocketDebuggerUrl: string
    }[]
    const page = targets.find(({ type }) => type === "page")
    if (page) return page.webSocketDebuggerUrl
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
