import type { ComputeType } from "../dtype.ts"
import type { DeviceTraits } from "../graph/fused-op.ts"
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
  /** The value after one more element. `of("v")` is this element's component of `v`, a local or a buffer's element. */
  readonly next: (value: string, of: (value: string) => string) => string
  /** The value of two parts; by default their sum. */
  readonly combine?: (a: string, b: string) => string
}

/**
 * WGSL of the steps of a row kernel. Their text may use `row`; inside loops also `k` (a column, or four) and `at` (its place
 * in a matrix); `T` is the type of what lies there, `lowest` the least number.
 */
export interface RowText {
  /** Declares the results of folds that go through the row together. `prepare` computes what they read. */
  readonly fold: (folds: readonly Fold[], prepare?: string) => string
  /** Does something for every element. */
  readonly each: (statements: string) => string
  /** Does something once for the row. */
  readonly once: (statements: string) => string
}

/** Elements that are folded in order before their result joins the rest. */
const block = 64

/** How rows are shared out. */
export interface RowForm {
  /** Invocations of the workgroup that works on one row; 0 where every row has one invocation. */
  readonly threads: number
  /** Elements are loaded four at a time. */
  readonly vector: boolean
}

/** Rows from which on a software driver's lanes are busy with a row each. */
const enoughRows = 16

/** The form for rows of `width` elements. Only speed depends on it. */
export const rowForm = (rows: number, width: number, { isSoftware }: Pick<DeviceTraits, "isSoftware">): RowForm => {
  const vector = width % 4 === 0
  const blocks = Math.ceil(width / block)
  const alone = isSoftware ? rows >= enoughRows || blocks < 8 : blocks < 2
  return { threads: alone ? 0 : blocks > 128 ? 256 : 64, vector }
}

/** A fused kernel and its grid for `rows` rows. */
export const rowLaunch = (
  kernel: RowKernel,
  rows: number,
  form: RowForm,
): { readonly kernel: Kernel; readonly grid: Grid } => ({
  kernel: {
    name: `${kernel.name}: ${form.threads === 0 ? "invocation" : `workgroup of ${form.threads}`} a row${form.vector ? ", by fours" : ""}`,
    params: { rows: "u32", width: "u32", ...kernel.params },
    buffers: kernel.buffers.map((buffer) =>
      buffer.type === "T" ? { ...buffer, type: form.vector ? "vec4f" : "f32" } : buffer,
    ),
    body: () => bodyOf(kernel, form),
  },
  grid: form.threads === 0 ? gridFor(rows, 64) : gridFor(rows, 1),
})

const bodyOf = ({ declarations = "", body }: RowKernel, { threads, vector }: RowForm): string => {
  const entry =
    threads === 0
      ? `${perItem(64, "p.rows")}
  let row = i;`
      : `
@compute @workgroup_size(${threads})
fn main(${placement}) {
  let lane = local.x;
  let row = group.y * groups.x + group.x;
  if (row >= p.rows) { return; }`
  const shared: string[] = []
  const text = threads === 0 ? alone(vector) : together(vector, threads, shared)
  const statements = body(text)
  return `alias T = ${vector ? "vec4f" : "f32"};
const lowest = -0x1.fffffep+127f;
${declarations}
${shared.join("\n")}
${entry}
  let units = p.width / ${vector ? 4 : 1}u;
  let base = row * units;
  ${statements}
}`
}

const sum = (a: string, b: string) => `${a} + ${b}`

/** The part of a fold that one invocation does: the block that starts at `block`. */
const foldBlock = (folds: readonly Fold[], prepare: string, vector: boolean): string => {
  const steps = vector ? ["x", "y", "z", "w"].map((c) => (v: string) => `${v}.${c}`) : [(v: string) => v]
  return `${folds.map(({ name, start = "0.0" }) => `var part_${name} = ${start};`).join(" ")}
    for (var k = block; k < min(block + ${vector ? block / 4 : block}u, units); k++) {
      let at = base + k;
      ${prepare}
      ${folds.flatMap(({ name, next }) => steps.map((of) => `part_${name} = ${next(`part_${name}`, of)};`)).join(" ")}
    }`
}

const alone = (vector: boolean): RowText => ({
  fold: (folds, prepare = "") => `${folds.map(({ name, start = "0.0" }) => `var ${name} = ${start};`).join(" ")}
  for (var block = 0u; block < units; block += ${vector ? block / 4 : block}u) {
    ${foldBlock(folds, prepare, vector)}
    ${folds.map(({ name, combine = sum }) => `${name} = ${combine(name, `part_${name}`)};`).join(" ")}
  }`,
  each: (statements) => `for (var k = 0u; k < units; k++) { let at = base + k; ${statements} }`,
  once: (statements) => statements,
})

/** Each invocation folds a block of its own; then all of them fold the blocks in order. */
const together = (vector: boolean, threads: number, shared: string[]): RowText => ({
  fold: (folds, prepare = "") => {
    for (const { name } of folds) shared.push(`var<workgroup> parts_${name}: array<f32, ${threads}>;`)
    const unitsPerBlock = vector ? block / 4 : block
    return `${folds.map(({ name, start = "0.0" }) => `var ${name} = ${start};`).join(" ")}
  for (var first = 0u; first < units; first += ${unitsPerBlock * threads}u) {
    let block = first + lane * ${unitsPerBlock}u;
    ${foldBlock(folds, prepare, vector)}
    ${folds.map(({ name }) => `parts_${name}[lane] = part_${name};`).join(" ")}
    workgroupBarrier();
    for (var i = 0u; i < min(${threads}u, (units - first + ${unitsPerBlock - 1}u) / ${unitsPerBlock}u); i++) {
      ${folds.map(({ name, combine = sum }) => `${name} = ${combine(name, `parts_${name}[i]`)};`).join(" ")}
    }
    workgroupBarrier();
  }`
  },
  each: (statements) => `for (var k = lane; k < units; k += ${threads}u) { let at = base + k; ${statements} }`,
  once: (statements) => `if (lane == 0u) { ${statements} }`,
})
