import type { ComputeType } from "../dtype.ts"
import type { DeviceTraits } from "../graph/fused-op.ts"
import { exponentialParts, type Parts } from "./exponentials.ts"
import { gridFor, perItem, placement, type BufferSpec, type Grid, type Kernel } from "../program/kernel.ts"

/**
 * Kernels that fold and map the rows of a matrix. Every fold has one order, whatever kernel does it: blocks of 64 elements
 * in order, then the blocks. So a row has the same bits alone and among others, on one invocation or on many.
 */
export interface RowKernel {
  readonly name: string
  /** Parameters after `rows` and `width`. */
  readonly params?: Readonly<Record<string, ComputeType>>
  /** Buffers; of type `T` where they are read like the rows: element by element or, where rows allow it, four at a time. */
  readonly buffers: readonly BufferSpec[]
  readonly declarations?: string
  /** What happens to one row: folds and maps, in order. */
  readonly body: (row: RowText) => string
}

/** A running value of a fold. */
export interface Fold {
  readonly name: string
  /** What an empty row gives; by default 0. Any value for which `combine` does nothing. */
  readonly start?: string
  /** The value after one more element: `of("v")` is the element's component of the local `v`. */
  readonly next: (value: string, of: (value: string) => string) => string
  /** The value of two parts; by default their sum. */
  readonly combine?: (a: string, b: string) => string
  /** Any order gives the same bits, as for a maximum: no blocks are needed. */
  readonly anyOrder?: true
}

/** The largest value of the expression `of(value)`. */
export const largest = (name: string, value: string): Fold => ({
  name,
  start: "lowest",
  next: (top, of) => `max(${top}, ${of(value)})`,
  combine: (a, b) => `max(${a}, ${b})`,
  anyOrder: true,
})

/**
 * WGSL of the steps of a row kernel. Their text may use `row`; inside loops also `k` (a column, or four) and `at` (its place
 * in a matrix); `T` is the type of what lies there, `lowest` the least number.
 */
export interface RowText {
  /**
   * Declares `top`, the largest of the elements that `element` gives at a place in a matrix, `total` = Σ exp(element − top)
   * and, if asked, `energy` = Σ exp(element − top) · (element − top), in one walk.
   */
  readonly exponentials: (element: (at: string) => string, options?: { readonly energy?: boolean }) => string
  /** Declares the results of folds that go through the row together. `prepare` computes what they read. */
  readonly fold: (folds: readonly Fold[], prepare?: string) => string
  /** Does something for every element, with the values of the row that `uses` names. */
  readonly each: (uses: readonly string[], statements: string) => string
  /** Does something once for the row. */
  readonly once: (statements: string) => string
  /** One element of the row, of a buffer of type `T`. */
  readonly element: (buffer: string, column: string) => string
}

/** Elements that are folded in order before their result joins the rest. */
const block = 64

/** How rows are shared out. */
export interface RowForm {
  /**
   * Who works on a row: an invocation; a lane, whose subgroup maps its rows together, one after the other, so that
   * neighbours write neighbouring elements; or a workgroup.
   */
  readonly by: "invocation" | "lane" | "workgroup"
  /** Invocations of a workgroup. */
  readonly threads: number
  /** Elements are loaded four at a time. */
  readonly vector: boolean
}

/** Rows from which on a software driver's lanes are busy with a row each. */
const enoughRows = 16

/** The form for rows of `width` elements. Only speed depends on it. */
export const rowForm = (
  rows: number,
  width: number,
  { isSoftware, subgroupSize }: Pick<DeviceTraits, "isSoftware" | "subgroupSize">,
): RowForm => {
  const vector = width % 4 === 0
  const blocks = Math.ceil(width / block)
  const alone = isSoftware ? rows >= enoughRows || blocks < 8 : blocks < 2
  if (!alone) return { by: "workgroup", threads: blocks > 128 ? 256 : 64, vector }
  return isSoftware && subgroupSize > 0
    ? { by: "lane", threads: subgroupSize, vector }
    : { by: "invocation", threads: 64, vector }
}

/** A row kernel in a form, and its grid for `rows` rows. */
export const rowLaunch = (
  kernel: RowKernel,
  rows: number,
  form: RowForm,
): { readonly kernel: Kernel; readonly grid: Grid } => ({
  kernel: {
    name: `${kernel.name}: ${form.by} of ${form.threads} a row${form.vector ? ", by fours" : ""}`,
    params: { rows: "u32", width: "u32", ...kernel.params },
    buffers: kernel.buffers.map((buffer) =>
      buffer.type === "T" ? { ...buffer, type: form.vector ? "vec4f" : "f32" } : buffer,
    ),
    subgroups: form.by === "lane",
    body: () => bodyOf(kernel, form),
  },
  grid: gridFor(rows, form.by === "workgroup" ? 1 : form.threads),
})

const bodyOf = ({ declarations = "", body }: RowKernel, form: RowForm): string => {
  const shared: string[] = []
  const { entry, text } = writers[form.by](form, shared)
  const element: RowText["element"] = (buffer, column) =>
    form.vector ? `${buffer}[base + ${column} / 4u][${column} % 4u]` : `${buffer}[base + ${column}]`
  const exponentials: RowText["exponentials"] = (at, { energy = false } = {}) => {
    const options = { width: form.vector ? 4 : 1, blockUnits: unitsPerBlock(form.vector), energy } as const
    return text.inBlocks(exponentialParts((k) => at(`base + ${k}`), options))
  }
  const fold: RowText["fold"] = (folds, prepare = "") =>
    form.by !== "workgroup" && folds.every(({ anyOrder }) => anyOrder)
      ? foldThrough(folds, prepare, form.vector)
      : text.inBlocks(foldParts(folds, prepare, form.vector))
  const statements = body({ each: text.each, once: text.once, fold, exponentials, element })
  return `alias T = ${form.vector ? "vec4f" : "f32"};
const lowest = -0x1.fffffep+127f;
${declarations}
${shared.join("\n")}
${entry}
  let units = p.width / ${form.vector ? 4 : 1}u;
  let base = row * units;
  ${statements}
}`
}

const sum = (a: string, b: string) => `${a} + ${b}`

const unitsPerBlock = (vector: boolean): number => (vector ? block / 4 : block)

/** Takes one unit into running values, element by element. */
const advance = (folds: readonly Fold[], prefix: string, vector: boolean): string => {
  const elements = vector ? ["x", "y", "z", "w"].map((c) => (v: string) => `${v}.${c}`) : [(v: string) => v]
  return folds
    .flatMap(({ name, next }) => elements.map((of) => `${prefix}${name} = ${next(`${prefix}${name}`, of)};`))
    .join(" ")
}

/** Folds, block by block. */
const foldParts = (folds: readonly Fold[], prepare: string, vector: boolean): Parts => ({
  values: folds.map(({ name, start = "0.0" }) => ({ name, start })),
  inBlock: `${folds.map(({ name, start = "0.0" }) => `var part_${name} = ${start};`).join(" ")}
    for (var k = block; k < min(block + ${unitsPerBlock(vector)}u, units); k++) {
      let at = base + k;
      ${prepare}
      ${advance(folds, "part_", vector)}
    }`,
  join: (part) => folds.map(({ name, combine = sum }) => `${name} = ${combine(name, part(name))};`).join(" "),
})

const declare = (values: Parts["values"]): string =>
  values.map(({ name, start }) => `var ${name} = ${start};`).join(" ")

/** Folds that may go in any order, by one invocation. */
const foldThrough = (folds: readonly Fold[], prepare: string, vector: boolean): string =>
  `${declare(foldParts(folds, prepare, vector).values)}
  for (var k = 0u; k < units; k++) { let at = base + k; ${prepare} ${advance(folds, "", vector)} }`

/** One invocation does all blocks of a row. */
const blocksAlone =
  (vector: boolean) =>
  ({ values, inBlock, join }: Parts): string =>
    `${declare(values)}
  for (var block = 0u; block < units; block += ${unitsPerBlock(vector)}u) {
    ${inBlock}
    ${join((name) => `part_${name}`)}
  }`

/** The start of `fn main`, which declares `row`, and the steps. `shared` collects declarations of workgroup memory. */
type Writer = (
  form: RowForm,
  shared: string[],
) => {
  readonly entry: string
  readonly text: Pick<RowText, "each" | "once"> & { readonly inBlocks: (parts: Parts) => string }
}

const writers: Readonly<Record<RowForm["by"], Writer>> = {
  invocation: ({ threads, vector }) => ({
    entry: `${perItem(threads, "p.rows")}
  let row = i;`,
    text: {
      inBlocks: blocksAlone(vector),
      each: (_, statements) => `for (var k = 0u; k < units; k++) { let at = base + k; ${statements} }`,
      once: (statements) => statements,
    },
  }),

  lane: ({ threads, vector }) => ({
    entry: `
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let firstRow = (group.y * groups.x + group.x) * ${threads}u;
  let row = min(firstRow + lane, p.rows - 1u);`,
    text: {
      inBlocks: blocksAlone(vector),
      each: (uses, statements) => `for (var r = 0u; r < ${threads}u && firstRow + r < p.rows; r++) {
    ${uses.map((name) => `let own_${name} = subgroupShuffle(${name}, r);`).join(" ")}
    let row = firstRow + r;
    for (var k = lane; k < units; k += ${threads}u) {
      let at = row * units + k; ${uses.map((name) => `let ${name} = own_${name};`).join(" ")}
      ${statements}
    }
  }`,
      once: (statements) => `if (firstRow + lane < p.rows) { ${statements} }`,
    },
  }),

  /** Each invocation folds a block of its own; then all of them fold the blocks in order. */
  workgroup: ({ threads, vector }, shared) => ({
    entry: `
@compute @workgroup_size(${threads})
fn main(${placement}) {
  let lane = local.x;
  let row = group.y * groups.x + group.x;
  if (row >= p.rows) { return; }`,
    text: {
      inBlocks: ({ values, inBlock, join }) => {
        for (const { name } of values) shared.push(`var<workgroup> parts_${name}: array<f32, ${threads}>;`)
        const units = unitsPerBlock(vector)
        return `${declare(values)}
  for (var first = 0u; first < units; first += ${units * threads}u) {
    let block = first + lane * ${units}u;
    ${inBlock}
    ${values.map(({ name }) => `parts_${name}[lane] = part_${name};`).join(" ")}
    workgroupBarrier();
    for (var i = 0u; i < min(${threads}u, (units - first + ${units - 1}u) / ${units}u); i++) {
      ${join((name) => `parts_${name}[i]`)}
    }
    workgroupBarrier();
  }`
      },
      each: (_, statements) => `for (var k = lane; k < units; k += ${threads}u) { let at = base + k; ${statements} }`,
      once: (statements) => `if (lane == 0u) { ${statements} }`,
    },
  }),
}
