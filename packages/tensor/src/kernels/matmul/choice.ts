import type { AdapterInfo } from "../../adapter/info.ts"
import { fitsPanels, panelSizes } from "./panels.ts"
import { plainMatmul } from "./plain.ts"
import type { MatmulLaunch, Problem } from "./problem.ts"
import { subgroupMatmul, type SubgroupTile } from "./subgroup.ts"
import { tiledMatmul, type WorkgroupTile } from "./tiled.ts"

/** One of the kernels that compute a product. All give the same bits. */
export interface Candidate {
  /** Says what it is, and keys what was measured of it. */
  readonly id: string
  /** Outputs of one workgroup. */
  readonly rows: number
  readonly columns: number
  /** It can gate one half of its columns by the other. */
  readonly gates: boolean
  readonly launch: (problem: Problem) => MatmulLaunch
}

/** How fast a candidate is, in GFLOP/s: of one workgroup alone on the device, and of as many as there is room for. */
export interface Rating {
  readonly alone: number
  readonly together: number
}

/**
 * Problems that are rated apart. In `nt far` the rows of both operands lie 4 KiB apart or a multiple of it, so that the
 * caches of a CPU have few places for them.
 */
export const problemClasses = ["nn", "nt", "nt far", "tn"] as const
export type ProblemClass = (typeof problemClasses)[number]

const classOf = ({ layout, K }: Problem): ProblemClass => {
  if (layout === "panels") throw new Error("operands in panels have a kernel already")
  return layout === "nt" && K % 1024 === 0 ? "nt far" : layout
}

/** What was measured of the candidates, by their ids. */
export type Ratings = Readonly<Record<ProblemClass, Readonly<Record<string, Rating>>>>

/** The candidates that a device chooses from, with their ratings. */
export interface MatmulChoice {
  readonly rated: Readonly<Record<ProblemClass, readonly (readonly [Candidate, Rating])[]>>
  /** Where it may be worth to lay out operands first. */
  readonly panels?: Panels | undefined
}

/** Products of operands that were laid out in panels: see panels.ts. */
export interface Panels {
  /** For problems in the layout `panels`. */
  readonly candidate: Candidate
  readonly rating: Rating
  /** Elements per nanosecond that are laid out. */
  readonly making: number
  /** Nanoseconds that a launch takes beside its work. */
  readonly launch: number
  /** Multiply-adds, and steps along k, from which a product may take two launches more. */
  readonly least: { readonly products: number; readonly steps: number }
}

/** What computes where nothing else can, and what the others are held to. */
export const plain: Candidate = { id: "plain", rows: 1, columns: 64, gates: true, launch: plainMatmul }

export const bySubgroup = (lanes: number, tile: SubgroupTile): Candidate => ({
  id: `subgroup of ${lanes}: ${tile.rows}×${4 * tile.quads * lanes} by ${tile.depth}, ${tile.accumulators}`,
  rows: tile.rows,
  columns: 4 * tile.quads * lanes,
  gates: tile.quads % 2 === 0,
  launch: (problem) => subgroupMatmul(problem, lanes, tile),
})

const byTiles = (tile: WorkgroupTile): Candidate => ({
  id: `tiles of ${tile.rows}×${tile.columns}, ${tile.perRow}×${4 * tile.perColumn} each`,
  rows: tile.rows,
  columns: tile.columns,
  gates: tile.perColumn === 2,
  launch: (problem) => tiledMatmul(problem, tile),
})

/** Large tiles for large products, flat ones for the few rows of decoding. */
const workgroupTiles: readonly WorkgroupTile[] = [
  { rows: 128, columns: 128, perRow: 8, perColumn: 2 },
  { rows: 128, columns: 64, perRow: 8, perColumn: 2 },
  { rows: 64, columns: 64, perRow: 8, perColumn: 2 },
  { rows: 32, columns: 64, perRow: 4, perColumn: 1 },
  { rows: 8, columns: 128, perRow: 4, perColumn: 1 },
]

const subgroupTiles: readonly SubgroupTile[] = [
  { rows: 32, quads: 1, depth: 4, accumulators: "registers" },
  { rows: 16, quads: 2, depth: 4, accumulators: "registers" },
  { rows: 8, quads: 1, depth: 4, accumulators: "registers" },
]

const lavapipeTiles: readonly SubgroupTile[] = [
  { rows: 48, quads: 2, depth: 4, accumulators: "memory" },
  { rows: 32, quads: 2, depth: 4, accumulators: "memory" },
  { rows: 32, quads: 2, depth: 2, accumulators: "memory" },
  { rows: 48, quads: 1, depth: 4, accumulators: "memory" },
  { rows: 16, quads: 2, depth: 2, accumulators: "memory" },
  { rows: 16, quads: 1, depth: 4, accumulators: "memory" },
  { rows: 8, quads: 2, depth: 2, accumulators: "memory" },
  { rows: 8, quads: 1, depth: 4, accumulators: "memory" },
  { rows: 4, quads: 2, depth: 4, accumulators: "memory" },
  { rows: 1, quads: 2, depth: 4, accumulators: "memory" },
]

const swiftShaderTiles: readonly SubgroupTile[] = [
  { rows: 32, quads: 4, depth: 4, accumulators: "registers" },
  { rows: 16, quads: 4, depth: 4, accumulators: "registers" },
  { rows: 8, quads: 1, depth: 4, accumulators: "registers" },
]

/** Kernels that may be the fastest on an adapter whose subgroups have `lanes` lanes, or none that are of use (0). */
export const candidatesFor = ({ kind }: AdapterInfo, lanes: number): readonly Candidate[] => {
  const forms = (tiles: readonly SubgroupTile[]) => (lanes === 0 ? [] : tiles.map((tile) => bySubgroup(lanes, tile)))
  switch (kind) {
    case "lavapipe":
      return [...forms(lavapipeTiles), plain]
    case "swiftshader":
      return [...forms(swiftShaderTiles), plain]
    case "gpu":
      return [...workgroupTiles.map(byTiles), ...forms(subgroupTiles), plain]
    default:
      return kind satisfies never
  }
}

/** Pairs candidates with what was measured of them; those without a measurement are left out, the plain one stays. */
export const choiceOf = (candidates: readonly Candidate[], ratings: Ratings, panels?: Panels): MatmulChoice => {
  const rated = (of: ProblemClass) =>
    candidates.flatMap((candidate): readonly (readonly [Candidate, Rating])[] => {
      const rating = ratings[of][candidate.id]
      if (rating) return [[candidate, rating]]
      return candidate === plain ? [[candidate, { alone: 1e-3, together: 1e-3 }]] : []
    })
  return {
    rated: { nn: rated("nn"), nt: rated("nt"), "nt far": rated("nt far"), tn: rated("tn") },
    panels,
  }
}

/** What is left to choose from without one candidate. */
export const withoutCandidate = ({ rated, panels }: MatmulChoice, id: string): MatmulChoice => {
  const others = (of: ProblemClass) => rated[of].filter(([candidate]) => candidate.id !== id)
  return {
    rated: { nn: others("nn"), nt: others("nt"), "nt far": others("nt far"), tn: others("tn") },
    panels: panels?.candidate.id === id ? undefined : panels,
  }
}

/** Largest number of workgroups along an axis. */
const maxGroups = 65_535

/** A candidate, and how long it will take in nanoseconds. */
export interface Choice {
  readonly candidate: Candidate
  readonly time: number
}

/** Workgroups down, along and across the products of a batch. */
const groupsOf = ({ M, N, batch }: Problem, { rows, columns }: Candidate): readonly [number, number, number] => [
  Math.ceil(M / rows),
  Math.ceil(N / columns),
  batch?.count ?? 1,
]

/** Nanoseconds that the rating predicts, whether workgroups fill the device or one of them takes longest. */
const timeOf = (problem: Problem, candidate: Candidate, { alone, together }: Rating): number => {
  const [down, along, count] = groupsOf(problem, candidate)
  const flops = 2 * problem.K * candidate.rows * candidate.columns
  return flops * Math.max(1 / alone, (down * along * count) / together)
}

/** The candidate for a problem: the one whose time the ratings predict to be the shortest. */
export const chooseMatmul = (problem: Problem, { rated }: MatmulChoice): Choice => {
  let best: Choice = { candidate: plain, time: Number.POSITIVE_INFINITY }
  for (const [candidate, rating] of rated[classOf(problem)]) {
    if (problem.gate && !candidate.gates) continue
    if (candidate !== plain && Math.max(...groupsOf(problem, candidate)) > maxGroups) continue
    const time = timeOf(problem, candidate, rating)
    if (time < best.time) best = { candidate, time }
  }
  return best
}

/** Bytes that an operand may take in panels. */
const panelBytes = 64 * 2 ** 20
/** Part of the time that panels must save to be worth their memory. */
const worthMemory = 0.03

/**
 * How a product is done with its operands laid out in panels first, or `undefined` where that gains nothing. What is stored
 * in fewer bits is laid out as f32, for as long as the product takes: it is then converted once, not by every tile.
 */
export const panelsFirst = (problem: Problem, choice: MatmulChoice): Panels | undefined => {
  const { panels } = choice
  const { gate, M, N, K } = problem
  if (!panels || M * N * K < panels.least.products || K < panels.least.steps) return undefined
  if (!fitsPanels(problem) || (gate && !panels.candidate.gates)) return undefined
  const { a, b } = panelSizes(problem, panels.candidate)
  if (Math.max(a, b) * 4 > panelBytes) return undefined
  const time = timeOf(problem, panels.candidate, panels.rating) + (a + b) / panels.making + 2 * panels.launch
  return time < (1 - worthMemory) * chooseMatmul(problem, choice).time ? panels : undefined
}

/** Name of the kernel that computes `linear(x, weight)` with x: [rows, inner] and weight: [columns, inner]. */
export const linearKernel = (
  { traits }: { readonly traits: { readonly matmul: MatmulChoice } },
  rows: number,
  columns: number,
  inner: number,
): string => {
  const problem: Problem = { layout: "nt", epilogue: "store", M: rows, N: columns, K: inner }
  return (panelsFirst(problem, traits.matmul) ?? chooseMatmul(problem, traits.matmul)).candidate.id
}
