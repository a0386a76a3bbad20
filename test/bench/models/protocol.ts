import type { Work } from "./workloads.ts"

/** What a contender is asked, one line of JSON each: to do some work once, or to measure what its hardware gives it. */
export type Request = Work | { readonly kind: "limits" }

/** One run, timed where it happened. */
export interface Reply {
  /** Milliseconds. */
  readonly wall: number
  /** Milliseconds of CPU time of all threads. */
  readonly cpu: number
  /** Tokens that were written, sequence after sequence, or the loss before the step. */
  readonly result: readonly number[]
}

/** What the hardware gives a contender at most, by its name. */
export type Limits = Readonly<Record<string, number>>

export interface Hello {
  readonly version: string
}

/** Marks lines of a contender's output that are answers. */
export const mark = "@bench "

export const say = (answer: Hello | Reply | Limits | { readonly refused: string }): void => {
  process.stdout.write(`${mark}${JSON.stringify(answer)}\n`)
}

/** Answers requests until there are no more. `run` returns the result, or undefined for work that it cannot do. */
export const serve = async (
  hello: Hello,
  run: (work: Work) => Promise<readonly number[] | undefined>,
  limits: () => Promise<Limits> = async () => ({}),
): Promise<void> => {
  say(hello)
  for await (const line of console) {
    if (line === "") break
    const request = JSON.parse(line) as Request
    try {
      if (request.kind === "limits") say(await limits())
      else {
        const [cpuBefore, before] = [process.cpuUsage(), performance.now()]
        const result = await run(request)
        const wall = performance.now() - before
        const { user, system } = process.cpuUsage(cpuBefore)
        say(result ? { wall, cpu: (user + system) / 1000, result } : { refused: "cannot do it" })
      }
    } catch (error) {
      say({ refused: error instanceof Error ? error.message : String(error) })
    }
  }
  process.exit(0)
}
