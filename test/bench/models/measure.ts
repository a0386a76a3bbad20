import type { Contender } from "./contender.ts"
import type { Reply } from "./protocol.ts"
import type { ModelWorkload } from "./workloads.ts"

/** Times of one contender on one workload. */
export interface Times {
  readonly contender: string
  /** Milliseconds of each round. */
  readonly wall: readonly number[]
  /** Milliseconds of CPU time of each round, all threads: what a busy machine distorts least. */
  readonly cpu: readonly number[]
  /** What its first two runs computed: tokens, or the losses before the first and the second step. */
  readonly results: readonly (readonly number[])[]
}

export interface Measured {
  readonly workload: ModelWorkload
  readonly times: readonly Times[]
  readonly refused: readonly { readonly contender: string; readonly reason: string }[]
}

/** Runs a workload on every contender in turn, round by round: whatever else the machine does, all see the same of it. */
export const measure = async (
  workload: ModelWorkload,
  contenders: readonly Contender[],
  { rounds, seconds }: { readonly rounds: number; readonly seconds: number },
): Promise<Measured> => {
  const runs = new Map<Contender, { readonly warm: Reply; readonly timed: Reply[] }>()
  const refused: { readonly contender: string; readonly reason: string }[] = []
  for (const contender of contenders) {
    try {
      // Once before the clock counts: programs are recorded, shaders compiled, caches filled.
      const warm = await contender.run(workload.work)
      runs.set(contender, { warm, timed: [] })
    } catch (error) {
      refused.push({ contender: contender.name, reason: error instanceof Error ? error.message : String(error) })
    }
  }
  const start = performance.now()
  for (let round = 0; round < rounds && (round < 3 || performance.now() - start < seconds * 1000); round++) {
    for (const [contender, { timed }] of runs) timed.push(await contender.run(workload.work))
  }
  const times = [...runs].map(([{ name }, { warm, timed }]) => ({
    contender: name,
    wall: timed.map(({ wall }) => wall),
    cpu: timed.map(({ cpu }) => cpu),
    results: [warm, ...timed.slice(0, 1)].map(({ result }) => result),
  }))
  return { workload, times, refused }
}
