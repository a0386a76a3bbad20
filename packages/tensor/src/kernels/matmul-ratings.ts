import type { AdapterInfo } from "../adapter/info.ts"
import type { Candidate, Rating, Ratings } from "./matmul-choice.ts"

/** GFLOP/s of one core, by candidate: [nn, nt, tn]. Measured on Mesa 25.0 with subgroups of 8 (AVX2). */
const lavapipe: Readonly<Record<string, readonly [number, number, number]>> = {
  "subgroup of 8: 32×64 by 2, memory": [41, 38, 43],
  "subgroup of 8: 32×32 by 4, memory": [37, 38.5, 39],
  "subgroup of 8: 16×32 by 4, memory": [28, 28, 29],
  "subgroup of 8: 8×64 by 2, memory": [21, 16, 20],
  "subgroup of 8: 8×32 by 4, memory": [19, 18, 20],
  plain: [1.2, 1.2, 1.2],
}

/** The same with subgroups of 4 on SwiftShader. */
const swiftShader: Readonly<Record<string, readonly [number, number, number]>> = {
  "subgroup of 4: 16×64 by 4, registers": [4.5, 4.5, 4.5],
  "subgroup of 4: 8×64 by 4, registers": [3.2, 3.2, 3.2],
  plain: [0.15, 0.15, 0.15],
}

const layouts = ["nn", "nt", "tn"] as const

const table = (rates: Readonly<Record<string, readonly number[]>>, cores: number): Ratings => {
  const column = (at: number): Readonly<Record<string, Rating>> =>
    Object.fromEntries(Object.entries(rates).map(([id, row]) => [id, { alone: row[at]!, together: row[at]! * cores }]))
  const [nn, nt, tn] = layouts.map((_, at) => column(at)) as [Ratings["nn"], Ratings["nt"], Ratings["tn"]]
  return { nn, nt, tn }
}

/**
 * What is known of candidates before anything is measured on this machine: what was measured of the software drivers;
 * nothing of a GPU.
 */
export const knownRatings = (
  { kind }: AdapterInfo,
  candidates: readonly Candidate[],
  cores: number,
): Ratings | undefined => {
  if (kind === "gpu") return undefined
  const ratings = table(kind === "lavapipe" ? lavapipe : swiftShader, cores)
  return candidates.every(({ id }) => ratings.nn[id]) ? ratings : undefined
}

/** For a device on which nothing may be measured: a tile is as good as the multiplications that it makes of one load. */
export const nominalRatings = (candidates: readonly Candidate[]): Ratings => {
  const ratings = Object.fromEntries(
    candidates.map(({ id, rows, columns }): [string, Rating] => {
      const together = (rows * columns) / (rows + columns)
      return [id, { alone: together / 64, together }]
    }),
  )
  return { nn: ratings, nt: ratings, tn: ratings }
}
