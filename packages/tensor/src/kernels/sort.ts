import { computeType, type ComputeType } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFusedOne } from "../graph/apply.ts"
import type { Emitter, FusedOp, Operand } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { axisOf } from "../ops/axes.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"
import { gather } from "./gather.ts"

export interface SortOptions {
  /** The largest first. */
  readonly descending?: boolean
}

export interface Sorted {
  readonly values: Tensor
  /** Where each value came from, i32. */
  readonly indices: Tensor
}

/** Rows up to this long are sorted by counting, in one launch. */
const countingLimit = 256

/** Bits whose order as integers is the order of the elements; NaN comes after infinity. */
const keyWgsl = (type: ComputeType): string => {
  const ordered = {
    f32: `let bits = select(bitcast<u32>(x), 0u, x == 0.0);
  let key = select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);`,
    i32: "let key = bitcast<u32>(x) ^ 0x80000000u;",
    u32: "let key = x;",
  }
  return `
fn keyOf(x: ${type}) -> u32 {
  ${ordered[type]}
  return select(key, ~key, p.descending == 1u);
}`
}

/** The place of an element is the number of those that come before it. */
const counting = (type: ComputeType): Kernel => ({
  name: `sort ${type}: count`,
  params: { items: "u32", length: "u32", descending: "u32" },
  buffers: [reads("x", type), writes("out", "i32")],
  body: () => `${keyWgsl(type)}
${perItem(64, "p.items")}
  let row = i - i % p.length; let own = i % p.length;
  let key = keyOf(x[i]);
  var place = 0u;
  for (var k = 0u; k < p.length; k++) {
    let other = keyOf(x[row + k]);
    place += select(0u, 1u, other < key || (other == key && k < own));
  }
  out[row + place] = i32(own);
}`,
})

const start: Kernel = {
  name: "sort: start",
  params: { items: "u32", padded: "u32" },
  buffers: [writes("order", "u32")],
  body: () => `${perItem(64, "p.items")}
  order[i] = i % p.padded;
}`,
}

/** One step of a bitonic network (K. E. Batcher, 1968) over indices; those past the end of the row stay behind. */
const exchange = (type: ComputeType): Kernel => ({
  name: `sort ${type}: exchange`,
  params: { items: "u32", length: "u32", padded: "u32", run: "u32", distance: "u32", descending: "u32" },
  buffers: [reads("x", type), writes("order", "u32")],
  body: () => `${keyWgsl(type)}
fn before(row: u32, a: u32, b: u32) -> bool {
  if (a >= p.length || b >= p.length) { return a < b; }
  let left = keyOf(x[row * p.length + a]); let right = keyOf(x[row * p.length + b]);
  return left < right || (left == right && a < b);
}
${perItem(64, "p.items")}
  let half = p.padded / 2u;
  let row = i / half; let t = i % half;
  let low = (t / p.distance) * 2u * p.distance + t % p.distance;
  let at = row * p.padded + low;
  let a = order[at]; let b = order[at + p.distance];
  if (before(row, b, a) == ((low & p.run) == 0u)) { order[at] = b; order[at + p.distance] = a; }
}`,
})

const finish: Kernel = {
  name: "sort: finish",
  params: { items: "u32", length: "u32", padded: "u32" },
  buffers: [reads("order", "u32"), writes("out", "i32")],
  body: () => `${perItem(64, "p.items")}
  out[i] = i32(order[(i / p.length) * p.padded + i % p.length]);
}`,
}

const sortLong = (emit: Emitter, x: Operand, out: Operand, rows: number, length: number, descending: number): void => {
  const padded = 2 ** Math.ceil(Math.log2(length))
  const kernel = exchange(computeType(x.spec.dtype))
  const order = emit.scratch({ shape: [rows, padded], dtype: "u32" })
  emit.launch(start, [order], [rows * padded, padded], gridFor(rows * padded, 64))
  const pairs = (rows * padded) / 2
  for (let run = 2; run <= padded; run *= 2)
    for (let distance = run / 2; distance >= 1; distance /= 2)
      emit.launch(kernel, [x, order], [pairs, length, padded, run, distance, descending], gridFor(pairs, 64))
  emit.launch(finish, [order, out], [rows * length, length, padded], gridFor(rows * length, 64))
}

const argSortOp: FusedOp<{ readonly descending: boolean }> = {
  name: "argSort",
  infer: ([x]) => [{ shape: x!.shape, dtype: "i32" }],
  lower: (emit, [x], [out], { descending }) => {
    const length = x!.spec.shape.at(-1)!
    const rows = x!.spec.shape.slice(0, -1).reduce((a, b) => a * b, 1)
    if (length > countingLimit) return sortLong(emit, x!, out!, rows, length, Number(descending))
    const items = rows * length
    emit.launch(
      counting(computeType(x!.spec.dtype)),
      [x!, out!],
      [items, length, Number(descending)],
      gridFor(items, 64),
    )
  },
}

/** Axes with `axis` moved to the end, and where they come back from. */
const toEnd = (rank: number, axis: number): readonly number[] => [
  ...Array.from({ length: rank }, (_, i) => i).toSpliced(axis, 1),
  axis,
]
const fromEnd = (rank: number, axis: number): readonly number[] =>
  Array.from({ length: rank - 1 }, (_, i) => i).toSpliced(axis, 0, rank - 1)

/** Indices (i32) that put the elements of `axis` in order; equal ones keep theirs. */
export const argSort = (x: Tensor, axis: number, { descending = false }: SortOptions = {}): Tensor => {
  const rank = x.shape.length
  const at = axisOf("argSort", x.shape, axis)
  const order = applyFusedOne(argSortOp, [x.transpose(toEnd(rank, at))], { descending })
  return order.transpose(fromEnd(rank, at))
}

export const sort = (x: Tensor, axis: number, options?: SortOptions): Sorted => {
  const indices = argSort(x, axis, options)
  return { values: gather(x, axis, indices), indices }
}

/** The `count` largest elements of `axis` (smallest: not descending), in order. */
export const topK = (x: Tensor, count: number, axis: number, { descending = true }: SortOptions = {}): Sorted => {
  const at = axisOf("topK", x.shape, axis)
  if (!Number.isInteger(count) || count < 0 || count > x.shape[at]!)
    throw new ShapeError("topK", `${count} is no number of elements of axis ${at}, which has ${x.shape[at]}`)
  const indices = argSort(x, axis, { descending }).slice(...Array<null>(at).fill(null), [0, count])
  return { values: gather(x, axis, indices), indices }
}
