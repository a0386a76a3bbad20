import type { ReadWidth } from "../../program/reader.ts"
import { components, range, type Problem, type Readers } from "./problem.ts"

/**
 * How a subgroup fetches its operands: text of WGSL, in three parts. `before` the loop over k places are computed, of which
 * `inside` it the running `aAt` and `bAt` are added; they move on by `advance` after every step.
 */

/** Components of the loads and stores that a problem allows, and steps along k whose operands are loaded together. */
export interface Access {
  readonly depth: number
  readonly a: ReadWidth
  readonly b: ReadWidth
  readonly out: ReadWidth
  readonly readers: Readers
  /** The last steps may lie beyond K: rows of A run across k, and their number is no multiple of the depth. */
  readonly tail: boolean
}

const component = (value: string, width: number, index: number): string =>
  width === 1 ? value : `${value}.${components[index]}`

/** Rows of the tile whose elements of A arrive by the shuffles `shuffle`; `terms[step]` names those of a row. */
export interface Arrival {
  readonly shuffle: string
  readonly rows: readonly {
    readonly row: number
    readonly terms: readonly string[]
  }[]
}

export interface LoadsOfA {
  readonly before: readonly string[]
  readonly advance: string
  /** Each loads values, which then serve the rows that arrive. */
  readonly groups: readonly {
    readonly load: readonly string[]
    readonly arrivals: readonly Arrival[]
  }[]
}

type Arrangement = Problem["layout"]

export const loadsOfA = (layout: Arrangement, lanes: number, rows: number, access: Access): LoadsOfA => {
  if (layout === "panels") return panelsOfA(lanes, rows, access)
  if (layout !== "tn") return alongRows(lanes, rows, access)
  return rows % 4 === 0 ? acrossRows(lanes, rows, access) : fewAcrossRows(rows, access)
}

/** A row of A runs along k: each lane loads `depth` elements of one row. */
const alongRows = (lanes: number, rows: number, { depth, readers: { a } }: Access): LoadsOfA => {
  const groups = range(Math.ceil(rows / lanes))
  const row = (g: number) => `min(y + ${g * lanes}u + lane, p.M - 1u)`
  return {
    before: groups.map((g) => `let a${g}At = (group.z * p.aStep + ${row(g)} * p.K) / ${depth}u;`),
    advance: "1u",
    groups: groups.map((g) => ({
      load: [`let a${g} = ${a.at(`a${g}At + aAt`)};`],
      arrivals: range(Math.min(lanes, rows - g * lanes)).map((lane) => ({
        shuffle: `let s = subgroupShuffle(a${g}, ${lane}u);`,
        rows: [{ row: g * lanes + lane, terms: range(depth).map((step) => component("s", depth, step)) }],
      })),
    })),
  }
}

/** A row of A runs along m: each lane loads four rows at one step. What lies beyond K adds −0, which changes nothing. */
const acrossRows = (lanes: number, rows: number, { depth, a: width, tail, readers: { a } }: Access): LoadsOfA => {
  const quads = rows / 4
  const groups = range(Math.ceil((quads * depth) / lanes))
  const place = (g: number): string[] => {
    const m = `min(y / 4u + q${g} % ${quads}u, (p.M - 1u) / 4u)`
    const step = `q${g} / ${quads}u`
    return [
      `let q${g} = ${g * lanes}u + lane; let a${g}Step = ${step};`,
      width === 4
        ? `let a${g}At = (group.z * p.aStep + min(${step}, p.K - 1u) * p.M) / 4u + ${m};`
        : `let a${g}At = group.z * p.aStep + min(${step}, p.K - 1u) * p.M; let a${g}Row = ${m} * 4u;`,
    ]
  }
  const load = (g: number): string => {
    // A step beyond K is read where the step before it lies.
    const back = tail
      ? ` - select(0u, p.M / ${width}u * (a${g}Step + k * ${depth}u + 1u - p.K), a${g}Step + k * ${depth}u >= p.K)`
      : ""
    const at = `a${g}At + aAt${back}`
    const value =
      width === 4
        ? a.at(at)
        : `vec4f(${range(4)
            .map((e) => a.at(`${at} + min(a${g}Row + ${e}u, p.M - 1u)`))
            .join(", ")})`
    return tail
      ? `let a${g} = select(vec4f(-0.0), ${value}, a${g}Step + k * ${depth}u < p.K);`
      : `let a${g} = ${value};`
  }
  return {
    before: groups.flatMap(place),
    advance: `${depth}u * p.M / ${width}u`,
    groups: [{ load: groups.map(load), arrivals: arrivalsByFour(lanes, quads, depth) }],
  }
}

/** A row of A runs along m, and the tile has fewer than four: each lane loads one element. */
const fewAcrossRows = (rows: number, { depth, tail, readers: { a } }: Access): LoadsOfA => {
  const beyond = `aStep + k * ${depth}u >= p.K`
  const back = tail ? ` - select(0u, p.M * (aStep + k * ${depth}u + 1u - p.K), ${beyond})` : ""
  const value = a.at(`aFirst + aAt${back}`)
  return {
    before: [
      `let aStep = min(lane / ${rows}u, ${depth - 1}u);`,
      `let aFirst = group.z * p.aStep + min(aStep, p.K - 1u) * p.M + min(y + lane % ${rows}u, p.M - 1u);`,
    ],
    advance: `${depth}u * p.M`,
    groups: [
      {
        load: [tail ? `let a0 = select(${value}, -0.0, ${beyond});` : `let a0 = ${value};`],
        arrivals: range(rows).map((row) => ({
          shuffle: range(depth)
            .map((step) => `let s${step} = subgroupShuffle(a0, ${step * rows + row}u);`)
            .join(" "),
          rows: [{ row, terms: range(depth).map((step) => `s${step}`) }],
        })),
      },
    ],
  }
}

/** A panel of A: four rows in a load, all rows of a step, then those of the next. */
const panelsOfA = (lanes: number, rows: number, { depth, readers: { a } }: Access): LoadsOfA => {
  const quads = rows / 4
  const groups = range(Math.ceil((quads * depth) / lanes))
  return {
    before: [`let aPanel = group.y * p.K * ${quads}u + lane;`],
    advance: `${depth * quads}u`,
    groups: [
      {
        load: groups.map((g) => `let a${g} = ${a.at(`aPanel + aAt + ${g * lanes}u`)};`),
        arrivals: arrivalsByFour(lanes, quads, depth),
      },
    ],
  }
}

/** Rows arrive by fours, whose elements at the step s were loaded as vector s · quads + quad, counted through the lanes. */
const arrivalsByFour = (lanes: number, quads: number, depth: number): readonly Arrival[] =>
  range(quads).map((quad) => {
    const shuffles = range(depth).map((step) => {
      const q = step * quads + quad
      return `let s${step} = subgroupShuffle(a${Math.floor(q / lanes)}, ${q % lanes}u);`
    })
    return {
      shuffle: shuffles.join(" "),
      rows: components.map((c, e) => ({
        row: quad * 4 + e,
        terms: range(depth).map((step) => `s${step}.${c}`),
      })),
    }
  })

export interface LoadsOfB {
  readonly before: readonly string[]
  readonly advance: string
  /** Declares `b{step}_{quad}`: the lane's columns, four each, at a step. */
  readonly inside: readonly string[]
}

export const loadsOfB = (layout: Arrangement, lanes: number, quads: number, access: Access): LoadsOfB => {
  if (layout === "panels") return panelsOfB(lanes, quads, access)
  return layout === "nt" ? alongColumns(quads, access) : acrossColumns(quads, access)
}

/** A panel of B: all columns of a step, then those of the next. */
const panelsOfB = (lanes: number, quads: number, { depth, readers: { b } }: Access): LoadsOfB => {
  const vector = (step: number, q: number) => b.at(`bPanel + bAt + ${(step * quads + q) * lanes}u`)
  return {
    before: [`let bPanel = group.x * p.K * ${quads * lanes}u + lane;`],
    advance: `${depth * quads * lanes}u`,
    inside: range(depth).flatMap((step) => range(quads).map((q) => `let b${step}_${q} = ${vector(step, q)};`)),
  }
}

/** A column of B runs along k, `depth` elements in a load. */
const alongColumns = (quads: number, { depth, readers: { b } }: Access): LoadsOfB => {
  const column = (q: number, e: number) => `min(x${q} * 4u + ${e}u, p.N - 1u)`
  return {
    before: range(quads).flatMap((q) =>
      range(4).map((e) => `let b${q}${e}At = (group.z * p.bStep + ${column(q, e)} * p.K) / ${depth}u;`),
    ),
    advance: "1u",
    inside: range(quads).flatMap((q) => [
      ...range(4).map((e) => `let t${q}${e} = ${b.at(`b${q}${e}At + bAt`)};`),
      ...range(depth).map((step) => {
        const elements = range(4).map((e) => component(`t${q}${e}`, depth, step))
        return `let b${step}_${q} = vec4f(${elements.join(", ")});`
      }),
    ]),
  }
}

/** A row of B runs along n. */
const acrossColumns = (quads: number, { depth, b: width, tail, readers: { b } }: Access): LoadsOfB => {
  const row = (step: number) => `min(${step}u, p.K - 1u) * p.N`
  const load = (step: number, q: number): string => {
    const isBeyond = `k * ${depth}u + ${step}u >= p.K`
    const back =
      tail && step > 0 ? ` - select(0u, p.N / ${width}u * (k * ${depth}u + ${step + 1}u - p.K), ${isBeyond})` : ""
    const at = `b${step}At + bAt${back}`
    if (width === 4) return b.at(`${at} + x${q}`)
    return `vec4f(${range(4)
      .map((e) => b.at(`${at} + min(x${q} * 4u + ${e}u, p.N - 1u)`))
      .join(", ")})`
  }
  // The element that meets A's −0 must be finite.
  const value = (step: number, q: number) =>
    tail && step > 0 ? `select(${load(step, q)}, vec4f(), k * ${depth}u + ${step}u >= p.K)` : load(step, q)
  return {
    before: range(depth).map((step) => `let b${step}At = (group.z * p.bStep + ${row(step)}) / ${width}u;`),
    advance: `${depth}u * p.N / ${width}u`,
    inside: range(depth).flatMap((step) => range(quads).map((q) => `let b${step}_${q} = ${value(step, q)};`)),
  }
}
