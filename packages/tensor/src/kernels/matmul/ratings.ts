import type { AdapterInfo, Processor } from "../../adapter/info.ts"
import { bySubgroup, plain, type Candidate, type Panels, type Rating, type Ratings } from "./choice.ts"
import type { SubgroupTile } from "./subgroup.ts"

type Rates = Readonly<Record<string, readonly [nn: number, nt: number, ntFar: number, tn: number]>>

/**
 * GFLOP/s of one core, by candidate and class of problem. Measured on Mesa 25.0 with subgroups of 8 (AVX2), on an AMD Zen 4,
 * whose cores have caches of 32 KiB for instructions: larger tiles, written out, have no room there.
 */
const lavapipe: Rates = {
  "subgroup of 8: 32×64 by 2, memory": [40, 37, 28, 46],
  "subgroup of 8: 48×32 by 4, memory": [33, 35.5, 34.5, 30],
  "subgroup of 8: 16×64 by 2, memory": [34.5, 31, 22, 40],
  "subgroup of 8: 16×32 by 4, memory": [31, 30.5, 27.5, 32],
  "subgroup of 8: 8×64 by 2, memory": [23, 16.8, 12, 24.5],
  "subgroup of 8: 8×32 by 4, memory": [21, 19.8, 19.1, 22.5],
  "subgroup of 8: 4×64 by 4, memory": [11.8, 11, 9.6, 11.8],
  "subgroup of 8: 1×64 by 4, memory": [3.7, 3.6, 2.9, 3.7],
  plain: [1.8, 1.8, 1.8, 1.8],
}

/** The same on an Intel Xeon whose cores have caches of 64 KiB for instructions. */
const lavapipeOfLargeCaches: Rates = {
  "subgroup of 8: 48×64 by 4, memory": [27.8, 28.8, 27.3, 27.8],
  "subgroup of 8: 32×64 by 4, memory": [25.9, 26.3, 26.4, 25.2],
  "subgroup of 8: 32×64 by 2, memory": [23.9, 23.8, 22.8, 25.9],
  "subgroup of 8: 48×32 by 4, memory": [26, 26.9, 26.6, 27],
  "subgroup of 8: 16×64 by 2, memory": [21.1, 19.8, 18.3, 22.5],
  "subgroup of 8: 16×32 by 4, memory": [20.8, 20.9, 19.1, 23.1],
  "subgroup of 8: 8×64 by 2, memory": [16.7, 14.9, 14.7, 16.5],
  "subgroup of 8: 8×32 by 4, memory": [13.2, 17.4, 16.4, 13.2],
  "subgroup of 8: 4×64 by 4, memory": [9.5, 10.2, 9.3, 10],
  "subgroup of 8: 1×64 by 4, memory": [3.4, 3.4, 3.1, 3.6],
  plain: [1, 1, 1, 1],
}

const isLarge = (processor: Processor | undefined): boolean => (processor?.instructionCache ?? 0) >= 64 * 2 ** 10

/** The same with subgroups of 4 on SwiftShader. */
const swiftShader: Rates = {
  "subgroup of 4: 32×64 by 4, registers": [5, 5.2, 5.2, 4.5],
  "subgroup of 4: 16×64 by 4, registers": [4.4, 3.2, 3.2, 3.8],
  "subgroup of 4: 8×16 by 4, registers": [3, 3.2, 3.2, 2.9],
  plain: [0.27, 0.27, 0.27, 0.27],
}

const table = (rates: Rates, cores: number): Ratings => {
  const column = (at: number): Readonly<Record<string, Rating>> =>
    Object.fromEntries(Object.entries(rates).map(([id, row]) => [id, { alone: row[at]!, together: row[at]! * cores }]))
  return { nn: column(0), nt: column(1), "nt far": column(2), tn: column(3) }
}

/**
 * What is known of candidates before anything is measured on this machine: what was measured of the software drivers;
 * nothing of a GPU.
 */
export const knownRatings = (
  { kind, processor }: AdapterInfo,
  candidates: readonly Candidate[],
  cores: number,
): Ratings | undefined => {
  if (kind === "gpu") return undefined
  const rates = kind === "lavapipe" ? (isLarge(processor) ? lavapipeOfLargeCaches : lavapipe) : swiftShader
  return candidates.some(({ id }) => id !== plain.id && rates[id]) ? table(rates, cores) : undefined
}

/** What panels are made for, and how much faster that is than another tile is for `tn`: measured as the rates above. */
interface PanelRate {
  readonly rows: number
  readonly than: SubgroupTile
  readonly by: number
  /** Multiply-adds from which on it pays. The layers of a small model keep to one launch a product. */
  readonly products: number
}

const panelRate: PanelRate = {
  rows: 32,
  than: { rows: 32, quads: 2, depth: 2, accumulators: "memory" },
  by: 1.065,
  products: 2 ** 27,
}
const panelRateOfLargeCaches: PanelRate = {
  rows: 64,
  than: { rows: 48, quads: 2, depth: 4, accumulators: "memory" },
  by: 1.1,
  products: 2 ** 28,
}

/** Where products gain from operands in panels: on lavapipe. */
export const panelsFor = ({ kind, processor }: AdapterInfo, lanes: number, ratings: Ratings): Panels | undefined => {
  if (kind !== "lavapipe" || lanes !== 8) return undefined
  const { rows, than, by, products } = isLarge(processor) ? panelRateOfLargeCaches : panelRate
  const rating = ratings.tn[bySubgroup(lanes, than).id]
  if (!rating) return undefined
  const candidate = bySubgroup(lanes, { rows, quads: 2, depth: 2, accumulators: "memory" })
  const [alone, together] = [by * rating.alone, by * rating.together]
  return {
    candidate: { ...candidate, id: `panels, ${candidate.id}` },
    rating: { alone, together },
    making: together / 54,
    launch: 30_000,
    least: { products, steps: 512 },
  }
}

/** For a device on which nothing may be measured: a tile is as good as the multiplications that it makes of one load. */
export const nominalRatings = (candidates: readonly Candidate[]): Ratings => {
  const ratings = Object.fromEntries(
    candidates.map(({ id, rows, columns }): [string, Rating] => {
      const together = (rows * columns) / (rows + columns)
      return [id, { alone: together / 64, together }]
    }),
  )
  return { nn: ratings, nt: ratings, "nt far": ratings, tn: ratings }
}
