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
  /** Declarations and `fn main`; called only when the pipeline is built. */
  readonly body: () => string
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

/** The complete WGSL of `kernel`: binding 0 holds the parameters, the buffers follow. */
export const wgsl = (kernel: Kernel): string => {
  const fields = Object.entries(kernel.params)
  return [
    kernel.subgroups ? "enable subgroups;" : "",
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

/** Start of `fn main` for kernels that run one invocation per item; `i` is the item, already bounds-checked. */
export const perItem = (workgroupSize: number, count: string): string => `
@compute @workgroup_size(${workgroupSize})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * ${workgroupSize}u + lane;
  if (i >= ${count}) { return; }`
