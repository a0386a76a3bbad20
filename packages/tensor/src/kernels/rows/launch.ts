import type { Emitter, Operand } from "../../graph/fused-op.ts"
import { gridFor, type Grid, type Kernel } from "../../program/kernel.ts"
import { exponentialParts } from "./exponentials.ts"
import { formName, rowForm, type RowForm } from "./form.ts"
import type { Fold, RowKernel, RowText } from "./kernel.ts"
import { momentParts } from "./moments.ts"
import type { Parts } from "./parts.ts"
import { unitsPerBlock, writers } from "./writers.ts"

export { rowForm, type RowForm } from "./form.ts"
export { largest, type RowKernel } from "./kernel.ts"

/** Emits a row kernel in the form that suits the rows and the device; `params` are those after `rows` and `width`. */
export const launchRows = (
  emit: Emitter,
  kernel: RowKernel,
  [rows, width]: readonly [rows: number, width: number],
  operands: readonly Operand[],
  params: readonly number[] = [],
): void => {
  if (rows === 0) return
  const { kernel: inForm, grid } = rowLaunch(kernel, rows, rowForm(kernel, rows, width, emit.device))
  emit.launch(inForm, operands, [rows, width, ...params], grid)
}

/** A row kernel in a form, and its grid for `rows` rows. */
export const rowLaunch = (
  kernel: RowKernel,
  rows: number,
  form: RowForm,
): { readonly kernel: Kernel; readonly grid: Grid } => ({
  kernel: {
    name: `${kernel.name}: ${formName(form)}`,
    params: { rows: "u32", width: "u32", ...kernel.params },
    buffers: kernel.buffers.map((buffer) =>
      buffer.type === "T" ? { ...buffer, type: form.vector ? "vec4f" : "f32" } : buffer,
    ),
    subgroups: form.by === "lane" || (form.lanes ?? 0) > 0,
    numbersOfSubgroups: (form.lanes ?? 0) > 0,
    body: () => bodyOf(kernel, form),
  },
  grid: gridFor(rows, form.by === "workgroup" || form.by === "holders" ? 1 : form.threads),
})

const bodyOf = (kernel: RowKernel, form: RowForm): string => {
  const { declarations = "", body } = kernel
  const { vector } = form
  const shared: string[] = []
  const { entry, before = "", throughBlock, inBlocks, each, once } = writers[form.by](kernel, form, shared)
  const statements = body({
    each,
    once,
    fold: (folds, prepare = "") => {
      const walk = throughBlock(`${prepare} ${advance(folds, vector)}`)
      return inBlocks(
        foldParts(folds, walk),
        folds.every(({ anyOrder }) => anyOrder),
      )
    },
    exponentials: (at, { energy = false } = {}) =>
      inBlocks(exponentialParts((k) => at(`base + ${k}`), { ...walkOf(kernel, form), energy })),
    moments: (at) => `let origin = ${at("base")}${vector ? ".x" : ""};
  ${inBlocks(momentParts((k) => at(`base + ${k}`), walkOf(kernel, form)))}
  center += origin;`,
    element: (buffer, column) =>
      vector ? `${buffer}[base + ${column} / 4u][${column} % 4u]` : `${buffer}[base + ${column}]`,
  } satisfies RowText)
  return `alias T = ${vector ? "vec4f" : "f32"};
const lowest = -0x1.fffffep+127f;
${declarations}
${shared.join("\n")}
${entry}
  let units = p.width / ${vector ? 4 : 1}u;
  let base = row * units;
  ${before}
  ${statements}
}`
}

/** How a walk of its own goes through a block. */
const walkOf = (kernel: RowKernel, form: RowForm) => {
  if (kernel.value !== undefined) throw new Error("rows that can be held are folded: holding makes one walk of all")
  return { width: form.vector ? 4 : 1, blockUnits: unitsPerBlock(kernel, form) } as const
}

const sum = (a: string, b: string) => `${a} + ${b}`

/** Takes one unit into the values of a part: element by element, or where any order will do, all of them at once. */
const advance = (folds: readonly Fold[], vector: boolean): string => {
  const elements = vector ? ["x", "y", "z", "w"].map((c) => (v: string) => `${v}.${c}`) : [(v: string) => v]
  return folds
    .flatMap(({ name, next, combine = sum, anyOrder }) => {
      const [x, y, z, w] = elements
      const all = (v: string) => combine(combine(x!(v), y!(v)), combine(z!(v), w!(v)))
      return (vector && anyOrder ? [all] : elements).map((of) => `part_${name} = ${next(`part_${name}`, of)};`)
    })
    .join(" ")
}

/** Folds whose units `walk` takes through a block. */
const foldParts = (folds: readonly Fold[], walk: string): Parts => ({
  values: folds.map(({ name, start = "0.0" }) => ({ name, start })),
  inBlock: `${folds.map(({ name, start = "0.0" }) => `var part_${name} = ${start};`).join(" ")} ${walk}`,
  join: (part, into = (name) => name) =>
    folds.map(({ name, combine = sum }) => `${into(name)} = ${combine(into(name), part(name))};`).join(" "),
})
