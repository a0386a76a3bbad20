import type { Gpu } from "@rlpt/tensor"
import { median } from "./measure.ts"
import { settle } from "./wait.ts"

const invocations = 64 * 64
/** Independent chains of fma that one invocation keeps going. */
const chains = [8, 12, 16]
const unrolled = 8

/**
 * The most multiply-adds that the adapter does, in GFLOP/s (an fma counts two): registers only, nothing loaded. The best
 * median over several numbers of chains. With it, what the same runs took in CPU time.
 */
export const measurePeak = async ({ device }: Gpu): Promise<{ readonly wall: number; readonly cpu: number }> => {
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
    const pipeline = device.createComputePipeline({
      layout: "auto",
      compute: { module: device.createShaderModule({ code }) },
    })
    const buffer = device.createBuffer({ size: invocations * 4, usage: GPUBufferUsage.STORAGE })
    const group = device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [{ binding: 0, resource: { buffer } }],
    })
    const run = async () => {
      const encoder = device.createCommandEncoder()
      const pass = encoder.beginComputePass()
      pass.setPipeline(pipeline)
      pass.setBindGroup(0, group)
      pass.dispatchWorkgroups(invocations / 64)
      pass.end()
      device.queue.submit([encoder.finish()])
      await settle(device.queue.onSubmittedWorkDone())
    }
    await run()
    const [wall, cpu]: [number[], number[]] = [[], []]
    for (let round = 0; round < 7; round++) {
      const [cpuBefore, before] = [process.cpuUsage(), performance.now()]
      await run()
      wall.push(performance.now() - before)
      const { user, system } = process.cpuUsage(cpuBefore)
      cpu.push((user + system) / 1000)
    }
    buffer.destroy()
    const flops = invocations * count * Math.ceil(steps / unrolled) * unrolled * 2
    best.wall = Math.max(best.wall, flops / median(wall) / 1e6)
    best.cpu = Math.max(best.cpu, flops / median(cpu) / 1e6)
  }
  return best
}
