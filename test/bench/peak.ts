import type { Gpu } from "@rlpt/tensor"
import { median } from "./measure.ts"
import { settle } from "./wait.ts"

/** What an adapter can do at most. */
export interface Peak {
  /** GFLOP/s of multiply-adds, and what the same runs took in CPU time. */
  readonly wall: number
  readonly cpu: number
  /** Milliseconds in which 1024 × 1024 elements are copied: kernels that read and write each once take longer. */
  readonly copy: number
}

export const measurePeak = async (gpu: Gpu): Promise<Peak> => ({
  ...(await measureMultiplyAdds(gpu)),
  copy: await measureCopy(gpu),
})

const rounds = 7

/** Runs a kernel on buffers several times per round, and tells the median milliseconds of one run, by the clock and in CPU time. */
const timed = async (
  { device }: Gpu,
  code: string,
  sizes: readonly number[],
  workgroups: number,
  times = 1,
): Promise<{ readonly wall: number; readonly cpu: number }> => {
  const pipeline = device.createComputePipeline({
    layout: "auto",
    compute: { module: device.createShaderModule({ code }) },
  })
  const buffers = sizes.map((size) => device.createBuffer({ size, usage: GPUBufferUsage.STORAGE }))
  const group = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
  })
  const run = async () => {
    const encoder = device.createCommandEncoder()
    const pass = encoder.beginComputePass()
    pass.setPipeline(pipeline)
    pass.setBindGroup(0, group)
    for (let i = 0; i < times; i++) pass.dispatchWorkgroups(workgroups)
    pass.end()
    device.queue.submit([encoder.finish()])
    await settle(device.queue.onSubmittedWorkDone())
  }
  await run()
  const [wall, cpu]: [number[], number[]] = [[], []]
  for (let round = 0; round < rounds; round++) {
    const [cpuBefore, before] = [process.cpuUsage(), performance.now()]
    await run()
    wall.push((performance.now() - before) / times)
    const { user, system } = process.cpuUsage(cpuBefore)
    cpu.push((user + system) / 1000 / times)
  }
  for (const buffer of buffers) buffer.destroy()
  return { wall: median(wall), cpu: median(cpu) }
}

const invocations = 64 * 64
/** Independent chains of fma that one invocation keeps going. */
const chains = [8, 12, 16]
const unrolled = 8

/** The best median over several numbers of chains; an fma counts two. Registers only, nothing is loaded. */
const measureMultiplyAdds = async (gpu: Gpu): Promise<Omit<Peak, "copy">> => {
  const best = { wall: 0, cpu: 0 }
  for (const count of chains) {
    const steps = Math.ceil(20_000 / count)
    const names = Array.from({ length: count }, (_, i) => `v${i}`)
    const code = `@group(0) @binding(0) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  let s = f32(id.x) * 1e-6; let a = 0.999 + s; let b = 0.001 + s;
  ${names.map((name, i) => `var ${name} = s + ${i}.0;`).join(" ")}
  for (var i = 0u; i < ${Math.ceil(steps / unrolled)}u; i++) {
    ${names
      .map((name) => `${name} = fma(${name}, a, b);`)
      .join(" ")
      .concat("\n    ")
      .repeat(unrolled)}
  }
  out[id.x] = ${names.join(" + ")};
}`
    const { wall, cpu } = await timed(gpu, code, [invocations * 4], invocations / 64)
    const flops = invocations * count * Math.ceil(steps / unrolled) * unrolled * 2
    best.wall = Math.max(best.wall, flops / wall / 1e6)
    best.cpu = Math.max(best.cpu, flops / cpu / 1e6)
  }
  return best
}

/** Vectors of four that one invocation copies. */
const copied = [1, 4, 8]

/** The best median over several numbers of vectors an invocation. */
const measureCopy = async (gpu: Gpu): Promise<number> => {
  const vectors = 1024 * 256
  const times: number[] = []
  for (const count of copied) {
    const each = Array.from({ length: count }, (_, i) => i)
    const code = `@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4f>;
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let at = group.x * ${64 * count}u + local.x;
  ${each.map((i) => `let v${i} = x[at + ${64 * i}u];`).join(" ")}
  ${each.map((i) => `out[at + ${64 * i}u] = v${i};`).join(" ")}
}`
    const { wall } = await timed(gpu, code, [16 * vectors, 16 * vectors], vectors / 64 / count, 16)
    times.push(wall)
  }
  return Math.min(...times)
}
