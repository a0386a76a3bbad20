import type { ComputeType } from "../dtype.ts"

/** A WGSL program with its interface. Shapes are parameters, never text: one pipeline serves every size. */
export interface Kernel {
  /** Names the specialisation: kernels of equal names have equal code. */
  readonly name: string
  /** What people are shown; the name where it is absent. */
  readonly label?: string
  /** Fields of the uniform `p`, in order. */
  readonly params: Readonly<Record<string, ComputeType>>
  /** Storage buffers, in binding order. */
  readonly buffers: readonly BufferSpec[]
  /** Uses subgroup operations. */
  readonly subgroups?: boolean
  /** Uses their numbers, a feature of the language that is not to be had everywhere. */
  readonly numbersOfSubgroups?: boolean
  /** Declarations and `fn main`; called only when the pipeline is built. */
  readonly body: () => string
  /** A launch whose results are known, to be tried before those of others are believed. */
  readonly check?: () => KernelCheck
}

/** A small launch of a kernel with known results. */
export interface KernelCheck {
  readonly kernel: string
  /** What is not to be chosen again where this fails. */
  readonly candidate: string
  readonly params: readonly number[]
  readonly grid: Grid
  /** In binding order. */
  readonly buffers: readonly CheckedBuffer[]
}

export interface CheckedBuffer {
  readonly before: ArrayBuffer
  /** What the launch makes of it, if it writes to it. */
  readonly after?: Expected
}

/**
 * Known results. WGSL lets a driver round the product of an fma before it adds, or not: which it does must be the same in
 * all kernels, and every element as here to the bit; or, where `tolerance` is given, within that · (1 + |value|).
 */
export interface Expected {
  readonly fused: Float32Array
  readonly roundedFirst: Float32Array
  readonly tolerance?: number
}

export interface BufferSpec {
  readonly name: string
  /** Element type, such as `f32`, `vec4f` or `u32`. */
  readonly type: string
  readonly access: "read" | "read_write"
}

export const reads = (name: string, type = "f32"): BufferSpec => ({ name, type, access: "read" })
export const writes = (name: string, type = "f32"): BufferSpec => ({ name, type, access: "read_write" })

export type Grid = readonly [x: number, y?: number, z?: number]

/** The language feature that numbers the subgroups of a workgroup. */
export const numbersOfSubgroups = "subgroup_id"

/** The complete WGSL of `kernel`: binding 0 holds the parameters, the buffers follow. */
export const wgsl = (kernel: Kernel): string => {
  const fields = Object.entries(kernel.params)
  return [
    kernel.subgroups ? "enable subgroups;" : "",
    kernel.numbersOfSubgroups ? `requires ${numbersOfSubgroups};` : "",
    fields.length > 0 ? `struct Params { ${fields.map(([name, type]) => `${name}: ${type}`).join(", ")} }` : "",
    fields.length > 0 ? "@group(0) @binding(0) var<uniform> p: Params;" : "",
    ...kernel.buffers.map(
      ({ name, type, access }, i) => `@group(0) @binding(${i + 1}) var<storage, ${access}> ${name}: array<${type}>;`,
    ),
    kernel.body(),
  ].join("\n")
}

/** Parameters of one launch as the bytes of `p`. */
export const packParams = (kernel: Kernel, values: readonly number[]): Uint32Array<ArrayBuffer> => {
  const types = Object.values(kernel.params)
  const words = new Uint32Array(Math.max(4, types.length))
  const floats = new Float32Array(words.buffer)
  types.forEach((type, i) => {
    if (type === "f32") floats[i] = values[i]!
    else words[i] = values[i]!
  })
  return words
}

const maxGrid = 65_535

/** Workgroups along one logical axis, folded over x and y where one dimension is not enough. */
export const gridFor = (items: number, perWorkgroup: number): Grid => {
  const groups = Math.max(1, Math.ceil(items / perWorkgroup))
  const rows = Math.ceil(groups / maxGrid)
  return [Math.ceil(groups / rows), rows]
}

/**
 * Parameters of `fn main` from which `lane` and the place of a workgroup follow. Not `local_invocation_index`: lavapipe
 * takes longer to tell it than to load a vector.
 */
export const placement =
  "@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u"

/** The same within subgroups of a fixed size, in kernels with {@link Kernel.numbersOfSubgroups}: lavapipe divides for `local`. */
export const placementInSubgroup =
  "@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) lane: u32"

/** Start of `fn main` for kernels that run one invocation per item; `i` is the item, already bounds-checked. */
export const perItem = (workgroupSize: number, count: string): string => `
@compute @workgroup_size(${workgroupSize})
fn main(${placement}) {
  let lane = local.x;
  let i = (group.y * groups.x + group.x) * ${workgroupSize}u + lane;
  if (i >= ${count}) { return; }`

/** Invocations of the workgroups of {@link eachItem}. */
const itemsAtOnce = 64

/** `fn main` for kernels that do the same to `p.items` items `i`, a workgroup to `p.runs` times 64 of them. */
export const eachItem = (statements: string): string => `
@compute @workgroup_size(${itemsAtOnce})
fn main(${placement}) {
  let first = (group.y * groups.x + group.x) * ${itemsAtOnce}u * p.runs;
  for (var i = first + local.x; i < min(first + ${itemsAtOnce}u * p.runs, p.items); i += ${itemsAtOnce}u) {
    ${statements}
  }
}`

export const itemParams = { items: "u32", runs: "u32" } as const

/**
 * Grid and {@link itemParams} of a kernel made by {@link eachItem}. On a software driver a workgroup costs as much as the
 * work of dozens of items: there they get several runs each, as long as every core has workgroups enough.
 */
export const itemsGrid = (
  items: number,
  { isSoftware }: { readonly isSoftware: boolean },
): { readonly params: readonly [items: number, runs: number]; readonly grid: Grid } => {
  const runs = isSoftware ? Math.max(1, Math.min(16, Math.floor(items / (itemsAtOnce * 64)))) : 1
  return { params: [items, runs], grid: gridFor(items, itemsAtOnce * runs) }
}
