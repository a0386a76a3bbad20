import { mark, type Hello, type Limits, type Reply, type Request } from "./protocol.ts"
import type { Work } from "./workloads.ts"

/** A process that does the work; it sleeps while it is not asked. */
export interface Contender extends Hello {
  readonly name: string
  readonly run: (work: Work) => Promise<Reply>
  readonly limits: () => Promise<Limits>
  readonly close: () => Promise<void>
}

/** Starts a contender. Throws what it said last if it does not start, or refuses. */
export const openContender = async (
  name: string,
  command: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<Contender> => {
  const child = Bun.spawn([...command], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, ...environment },
  })
  const complaint = new Response(child.stderr).text()
  const answers = answersOf(child.stdout)
  const next = async <A>(): Promise<A> => {
    const { value } = await answers.next()
    if (value === undefined) {
      const last = (await complaint).trim().split("\n").at(-1)
      throw new Error(last === undefined || last === "" ? `ended with code ${await child.exited}` : last)
    }
    const answer = JSON.parse(value) as A | { readonly refused: string }
    if (typeof answer === "object" && answer !== null && "refused" in answer) throw new Error(String(answer.refused))
    return answer as A
  }
  const ask = async <A>(request: Request): Promise<A> => {
    child.stdin.write(`${JSON.stringify(request)}\n`)
    await child.stdin.flush()
    return next<A>()
  }
  const { version } = await next<Hello>()
  return {
    name,
    version,
    run: (work) => ask<Reply>(work),
    limits: () => ask<Limits>({ kind: "limits" }),
    close: async () => {
      await child.stdin.end()
      await child.exited
    },
  }
}

/** The marked lines of an output; libraries print others. */
async function* answersOf(output: ReadableStream<Uint8Array>): AsyncGenerator<string, undefined> {
  let rest = ""
  for await (const text of output.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n")
    rest = lines.pop()!
    for (const line of lines) if (line.startsWith(mark)) yield line.slice(mark.length)
  }
}
